"""R1 and R7: killed, or out of disk, at every step that changes a run; the rerun ends the same."""

import errno
import random
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilotfish.diagnostics.verify import walk
from pilotfish.store import Store, commit
from tests.figures import Reached, size
from tests.torture.conftest import Whole
from tests.torture.doubles import KILLED, count_into, fail_at, forked, kill_at
from tests.torture.jobs import Jobs, copy, files, redone

pytestmark = pytest.mark.torture


class Sweep:
    """One job to interrupt: what it begins with, what it is, and what it must leave."""

    def __init__(self, jobs: Jobs, stage: str, begun: Path | None, whole: Whole) -> None:
        self.jobs, self.stage, self.begun, self.whole = jobs, stage, begun, whole[stage]

    def fresh(self, folder: Path) -> Path:
        """The run as it is before the job."""
        return copy(self.begun, folder / "run") if self.begun else folder / "run"

    def work(self, run: Path, measured: Path) -> None:
        """The job."""
        if self.stage == "train":
            self.jobs.train(run)
        else:
            self.jobs.select(run, measured=measured)

    def steps(self, folder: Path) -> list[str]:
        """The names of all steps the job takes."""
        run, found = self.fresh(folder), folder / "steps"
        assert forked(lambda: (count_into(found), self.work(run, folder / "none"))) == 0
        return found.read_text().split()


@pytest.fixture(params=["select", "train"])
def sweep(request: Any, jobs: Jobs, selected: Path, whole: Whole) -> Sweep:
    return Sweep(jobs, request.param, selected if request.param == "train" else None, whole)


def some(count: int, short: int) -> list[int]:
    """All steps in full, a few drawn ones otherwise."""
    every = range(1, count + 1)
    return sorted(random.Random(6).sample(every, size(min(short, count), count)))


def interrupted(sweep: Sweep, folder: Path, arrange: Callable[[], None]) -> tuple[int, int]:
    """Interrupt the job as arranged, then do it again. -> exit code, shards begun twice."""
    folder.mkdir(exist_ok=True)
    run, first, second = sweep.fresh(folder), folder / "first", folder / "second"
    code = forked(lambda: (arrange(), sweep.work(run, first)))
    if run.exists():
        assert walk(Store(run)).damaged == [], "a manifest vouches for what is not there"
    assert forked(lambda: sweep.work(run, second)) == 0
    assert files(run) == sweep.whole
    return code, len(redone(first, second))


def test_killed_at_every_step(sweep: Sweep, tmp_path: Path, reached: Reached) -> None:
    tried = some(len(sweep.steps(tmp_path)), 8)
    most = 0
    for step in tried:
        code, again = interrupted(sweep, tmp_path / str(step), lambda step=step: kill_at(step))
        assert code == KILLED, step
        most = max(most, again)
    assert most <= 1
    what = "score and select" if sweep.stage == "select" else "train"
    reached("R1", f"{what}: killed at {len(tried)} of {len(tried)} write steps, the rerun's files "
            f"byte-identical; shards redone: at most {most}")  # fmt: skip


def test_a_full_disk_at_every_step(sweep: Sweep, tmp_path: Path, reached: Reached) -> None:
    names = sweep.steps(tmp_path)
    tried = some(len(names), 6)
    refused = 0
    for step in tried:
        # the SQLite way: one write that fails, and a disk that stays full
        code, _ = interrupted(
            sweep, tmp_path / str(step),
            lambda step=step: fail_at(step, errno.ENOSPC, for_good=step % 2 == 0),
        )  # fmt: skip
        assert code == 74 or names[step - 1] in ("unlink", "remove_tree"), (step, code)
        refused += code == 74
        left = [path for path in (tmp_path / str(step) / "run").rglob(".tmp-*")]
        assert not left
    reached("R7", f"{sweep.stage}: disk full at {refused} write steps: exit 74, nothing half "
            "visible, the rerun's files byte-identical")  # fmt: skip


@pytest.mark.parametrize("room", [300, 3_000, 30_000])
def test_a_write_that_the_kernel_refuses(
    room: int, sweep: Sweep, tmp_path: Path, reached: Reached
) -> None:
    """Not our double: any write beyond so many bytes, by whatever library, fails with EFBIG."""

    def arrange() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    code, _ = interrupted(sweep, tmp_path / "small", arrange)
    assert code == 74 or (code == 0 and room == 30_000)
    if code:
        reached("R7", f"{sweep.stage}: files of at most {room:,} bytes allowed by the kernel: 74")


def manifest_first(self: Store, attempt: Any, manifest: str) -> None:
    """A commit that puts the manifest before what it vouches for."""
    found = {
        str(target.relative_to(self.root)): {
            "sha256": commit.sha256_file(temp), "bytes": temp.stat().st_size,
        }
        for temp, target in attempt.files()
    }  # fmt: skip
    self.write_json(manifest, {**attempt.meta, "files": found})
    commit._rename(attempt.files())


def test_a_manifest_written_first_is_found_out(
    jobs: Jobs, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: Reached
) -> None:
    """Negative control: the sweep is red for a store that breaks its protocol."""
    monkeypatch.setattr(Store, "_commit", manifest_first)
    sweep, red = Sweep(jobs, "select", None, whole), 0
    for step in range(9, 21):
        try:
            interrupted(sweep, tmp_path / str(step), lambda step=step: kill_at(step))
        except AssertionError:
            red += 1
    assert red
    reached("R1", f"negative control, manifest first: {red} of 12 kills found out")
