"""Locks and leases: one holder, freed by death; temp files of living workers; late writers."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pilotfish.store import Store, has_workers, run_lock, tidy, working
from pilotfish.store import locks as module

HOLD = (
    "import sys, time\n"
    "from pilotfish.store import working\n"
    "with working(sys.argv[1]) as leases:\n"
    "    print(leases.take('3'), flush=True)\n"
    "    time.sleep(60)\n"
)


def holder(root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    return process


def test_a_lease_is_held_by_one_and_freed_by_sigkill(tmp_path: Path) -> None:
    other = holder(tmp_path)
    with working(tmp_path) as mine:
        assert not mine.take("3")
        assert mine.take("4") and mine.take("4")
        other.send_signal(signal.SIGKILL)
        other.communicate()
        assert mine.take("3")
        mine.release("3")
        mine.release("nothing that is held")
        with working(tmp_path) as third:
            assert third.take("3") and not third.take("4")
    with working(tmp_path) as later:
        assert later.take("3") and later.take("4")


def test_temp_files_of_living_workers_are_not_swept(tmp_path: Path) -> None:
    left = tmp_path / ".tmp-left"
    left.mkdir()
    other = holder(tmp_path)
    with run_lock(tmp_path):
        assert left.exists() and has_workers(tmp_path)
    other.kill()
    other.communicate()
    with run_lock(tmp_path):
        assert not left.exists() and not has_workers(tmp_path)


def test_only_the_last_one_puts_the_leases_away(tmp_path: Path) -> None:
    with working(tmp_path) as leases:
        leases.take("0")
        tidy(tmp_path)
        assert (tmp_path / module.FOLDER / "0").exists()
    tidy(tmp_path)
    assert list(tmp_path.iterdir()) == []
    tidy(tmp_path)


def test_a_lock_on_a_file_that_was_tidied_away_excludes_no_other_worker(tmp_path: Path) -> None:
    path = tmp_path / "0"
    stale = module._lock(path, module.fcntl.LOCK_EX)
    path.unlink()
    fresh = module._lock(path, module.fcntl.LOCK_EX | module.fcntl.LOCK_NB)
    assert stale is not None and fresh is not None
    assert module._lock(path, module.fcntl.LOCK_EX | module.fcntl.LOCK_NB) is None
    for descriptor in (stale, fresh):
        os.close(descriptor)


def test_where_the_disk_has_no_locks_every_lease_is_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise OSError(module.errno.ENOLCK, "no locks")

    monkeypatch.setattr(module.fcntl, "flock", unknown)
    with working(tmp_path) as one, working(tmp_path) as other:
        assert one.take("0") and other.take("0")


def write(store: Store, text: str) -> None:
    with store.attempt("part.json") as attempt:
        attempt.path("part.parquet").write_text(text)
        attempt.meta = {"rows": 1}


def test_a_late_worker_with_the_same_bytes_withdraws_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    write(store, "same")
    stamp = (tmp_path / "part.json").stat().st_mtime_ns
    monkeypatch.setattr(Store, "forget", lambda *_: pytest.fail("withdrawn for a moment"))
    write(Store(tmp_path), "same")
    assert (tmp_path / "part.json").stat().st_mtime_ns == stamp
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part.json", "part.parquet"]


def test_a_late_worker_with_other_bytes_is_found_out(tmp_path: Path) -> None:
    """It landed its data between the other's data and manifest: the pair does not match."""
    store = Store(tmp_path)
    write(store, "one")
    (tmp_path / "part.parquet").write_text("two")
    assert store.manifest("part.json") is None
    write(store, "one")
    assert store.manifest("part.json") is not None


def test_two_workers_may_withdraw_the_same_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Store(tmp_path), "old")
    real = Path.exists

    def then_gone(self: Path) -> bool:
        found = real(self)
        if self.name == "part.json":
            self.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "exists", then_gone)
    Store(tmp_path).forget("part.json")
