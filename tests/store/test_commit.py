"""The commit protocol: all or nothing, manifest last, damage found before use."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pilotfish.errors import DamagedRun, DiskError, RunBusy, UsageError
from pilotfish.store import Run, Store, fs_ops, run_lock


def commit_two(store: Store, text: str = "one") -> None:
    with store.attempt("group.json") as attempt:
        attempt.path("a/one.txt").write_text(text)
        folder = attempt.folder("b")
        (folder / "deep").mkdir()
        (folder / "deep" / "two.txt").write_text("two")
        attempt.meta = {"rows": 2}


def names(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_a_group_becomes_visible_as_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit_two(store)
    assert names(tmp_path) == ["a/one.txt", "b/deep/two.txt", "group.json"]
    found = store.manifest("group.json")
    assert found is not None and found["rows"] == 2 and len(found["files"]) == 2


def test_files_of_an_older_group_are_removed_with_the_new_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for names in (("weights", "chat_template"), ("weights",)):
        with store.attempt("model/manifest.json") as attempt:
            folder = attempt.folder("model")
            for name in names:
                (folder / name).write_text(name)
    (tmp_path / "model" / "mine.txt").write_text("in no group")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "manifest.json", "mine.txt", "weights",
    ]  # fmt: skip


def test_an_exception_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.attempt("group.json") as attempt:
        attempt.path("a.txt").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("x", "y"):
        commit_two(Store(tmp_path / name))
    assert (tmp_path / "x/group.json").read_bytes() == (tmp_path / "y/group.json").read_bytes()


@pytest.mark.parametrize("victim", ["a/one.txt", "b/deep/two.txt"])
def test_any_flipped_bit_is_found_and_named(tmp_path: Path, victim: str) -> None:
    store = Store(tmp_path)
    commit_two(store)
    data = bytearray((tmp_path / victim).read_bytes())
    data[0] ^= 1
    (tmp_path / victim).write_bytes(data)
    assert store.manifest("group.json") is None
    with pytest.raises(DamagedRun, match=victim):
        store.require("group.json")


def test_a_manifest_that_is_not_json_is_no_manifest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit_two(store)
    (tmp_path / "group.json").write_text("{")
    assert store.manifest("group.json") is None
    with pytest.raises(DamagedRun):
        store.require("group.json")


def steps_of_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many primitives one commit over an older one takes, counted."""
    count = 0
    commit_two(Store(tmp_path / "count"), "old")

    def counting(name: str) -> None:
        real = getattr(fs_ops, name)

        def step(*args: Path) -> None:
            nonlocal count
            count += 1
            real(*args)

        monkeypatch.setattr(fs_ops, name, step)

    for name in ("fsync_file", "fsync_dir", "replace", "write_bytes"):
        counting(name)
    commit_two(Store(tmp_path / "count"), "new")
    monkeypatch.undo()
    return count


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_at_any_step_leaves_old_or_new_never_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: int
) -> None:
    total = steps_of_one_commit(tmp_path, monkeypatch)
    assert total >= 8
    for fail_at in range(total):
        root = tmp_path / f"fail-{failure}-{fail_at}"
        store = Store(root)
        commit_two(store, "old")
        with monkeypatch.context() as patch:
            seen = 0

            def failing(name: str, patch: pytest.MonkeyPatch = patch, at: int = fail_at) -> None:
                real = getattr(fs_ops, name)

                def step(*args: Path) -> None:
                    nonlocal seen
                    seen += 1
                    if seen > at:
                        raise OSError(failure, "planted")
                    real(*args)

                patch.setattr(fs_ops, name, step)

            for name in ("fsync_file", "fsync_dir", "replace", "write_bytes"):
                failing(name)
            with pytest.raises(DiskError):
                commit_two(store, "new")
        found = store.manifest("group.json")
        # a manifest that is valid vouches for one whole version
        if found is not None:
            assert (root / "a/one.txt").read_text() in {"old", "new"}
        commit_two(store, "new")
        assert (root / "a/one.txt").read_text() == "new"
        assert not [name for name in names(root) if ".tmp-" in name]


def test_names_cannot_leave_the_run(tmp_path: Path) -> None:
    for name in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(UsageError, match="leaves"):
            Store(tmp_path).path(name)


def test_strict_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Store(tmp_path).write_json("x.json", {"a": float("nan")})


HOLD = """
import sys, time
from pilotfish.store import run_lock
with run_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_planner_is_refused_and_death_frees_the_lock(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(RunBusy), run_lock(tmp_path):
        pass
    owner.kill()
    owner.wait()
    owner.stdout.close()
    with run_lock(tmp_path) as store:
        assert store.root == tmp_path


def test_the_lock_sweeps_what_interrupted_attempts_left(tmp_path: Path) -> None:
    (tmp_path / ".tmp-dead").mkdir()
    (tmp_path / ".tmp-dead" / "x").write_text("x")
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / ".tmp-dead2").write_text("x")
    with run_lock(tmp_path):
        pass
    assert names(tmp_path) == ["LOCK"]


def test_reuse_is_refused_by_the_name_of_what_changed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.fix("weak", {"name": "a", "digest": "1"})
    assert not run.fix("weak", {"name": "a", "digest": "1"})
    with pytest.raises(UsageError, match="digest changed"):
        run.fix("weak", {"name": "a", "digest": "2"})
    assert run.fix("weak", {"name": "a", "digest": "2"}, force=True)
    assert run.section("weak")["digest"] == "2"


def test_events_add_up_and_hold_the_times(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.update(status="x")
    run.cost("score", "ifd", seconds=1.5, tokens=10)
    run.cost("score", "ifd", seconds=0.5, tokens=4)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line["seconds"] for line in lines] == [1.5, 0.5]
    assert '"at"' not in json.dumps(run.manifest)


def test_a_full_disk_that_a_rust_library_tells_in_words_is_a_disk_error_too(tmp_path: Path) -> None:
    class SafetensorError(Exception):
        pass

    message = "Error while serializing: I/O error: No space left on device (os error 28)"
    with pytest.raises(DiskError, match="No space left"), Store(tmp_path).attempt("m.json"):
        raise SafetensorError(message)
    message = "I/O error: No such file or directory (os error 2)"
    with pytest.raises(SafetensorError), Store(tmp_path).attempt("m.json"):
        raise SafetensorError(message)


@pytest.mark.parametrize("failure", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_run_folder_that_cannot_be_locked_for_the_disk_is_a_disk_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: int
) -> None:
    def refuse(path: Path, *rest: object) -> int:
        raise OSError(failure, os.strerror(failure), str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DiskError, match="LOCK"), run_lock(tmp_path):
        pass


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_in_the_place_of_the_run_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="a file is in its place"), run_lock(tmp_path / name):
        pass


def test_a_manifest_with_a_changed_entry_vouches_for_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.attempt("a.json") as attempt:
        attempt.path("a.bin").write_bytes(b"data")
    whole = (tmp_path / "a.json").read_text()
    for old, new in (
        ('bytes"', 'cytes"'),
        ('sha256"', 'sha257"'),
        ("a.bin", "../a"),
        (": 4", ": 5"),
    ):
        changed = whole.replace(old, new, 1)
        assert changed != whole
        (tmp_path / "a.json").write_text(changed)
        assert store.manifest("a.json") is None, new


def test_a_sync_reaches_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweeps count our steps; that a step asks the disk for what its name says is held here."""
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(os.fstat(number).st_ino),
                                                     real(number)))  # fmt: skip
    file = tmp_path / "file"
    file.write_bytes(b"x")
    fs_ops.fsync_file(file)
    fs_ops.fsync_dir(tmp_path)
    assert synced == [file.stat().st_ino, tmp_path.stat().st_ino]
    synced.clear()
    with Store(tmp_path).attempt("a/group.json") as attempt:
        attempt.path("a/data").write_bytes(b"y")
    folder = tmp_path / "a"
    data, group = ((folder / name).stat().st_ino for name in ("data", "group.json"))
    inside, above = folder.stat().st_ino, tmp_path.stat().st_ino
    # the data, the new folder's name, the data's name, and only then the manifest and its name
    assert synced == [data, above, inside, group, inside]


def test_an_old_manifest_never_vouches_for_new_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even between the data and the new manifest, where nothing else is there."""
    store = Store(tmp_path)
    commit_two(store, "old")
    found: list[tuple[str, bool]] = []

    def looked(source: Path, target: Path) -> None:
        os.replace(source, target)
        found.append((target.name, (tmp_path / "group.json").exists()))

    monkeypatch.setattr(fs_ops, "replace", looked)
    commit_two(store, "new")
    assert found == [("one.txt", False), ("two.txt", False), ("group.json", True)]
