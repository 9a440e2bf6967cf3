"""R2: power lost at every step, what was never synced gone or torn; the rerun ends the same."""

import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotfish.diagnostics.verify import walk
from pilotfish.store import Store
from tests.figures import Reached, size
from tests.torture.conftest import Whole
from tests.torture.doubles import KILLED, Disk, count_into, forked, power_cut_at
from tests.torture.jobs import Jobs, copy, files, redone

pytestmark = pytest.mark.torture

Persists = Callable[[], bool]
Tear = Callable[[bytes], bytes]


def states(seed: int) -> list[tuple[Persists, Tear]]:
    """What a power cut may leave: nothing that was not synced, all names but torn bytes, a mix."""
    draw = random.Random(seed)
    return [
        (lambda: False, lambda data: b""),
        (lambda: True, lambda data: data[: len(data) // 2]),
        (lambda: draw.random() < 0.5, lambda data: bytes(len(data))),
    ]


def cut(jobs: Jobs, stage: str, run: Path, step: int, forgetful: frozenset[str]) -> Disk | None:
    """The disk as the power went out at a step; None where the job had ended by then."""
    state = run.parent / "disk"
    state.unlink(missing_ok=True)

    def work() -> None:
        power_cut_at(step, Disk.of(run, forgetful=forgetful), state)
        do(jobs, stage, run, run.parent / "first")

    if forked(work) != KILLED:
        return None
    found: Disk = pickle.loads(state.read_bytes())
    return found


def do(jobs: Jobs, stage: str, run: Path, measured: Path) -> None:
    jobs.train(run) if stage == "train" else jobs.select(run, measured=measured)


def count(jobs: Jobs, stage: str, run: Path) -> int:
    steps = run.parent / "steps"
    assert forked(lambda: (count_into(steps), do(jobs, stage, run, run.parent / "none"))) == 0
    return len(steps.read_text().split())


def begin(stage: str, selected: Path, folder: Path) -> Path:
    """The run before the job."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("first", "second"):
        (folder / name).unlink(missing_ok=True)
    if stage == "train":
        return copy(selected, folder / "run")
    (folder / "run").mkdir()
    return folder / "run"


def recovered(jobs: Jobs, stage: str, run: Path, whole: Whole) -> int:
    """How many shards the rerun begins again; what it leaves is as if nothing had happened."""
    first, second = run.parent / "first", run.parent / "second"
    second.unlink(missing_ok=True)
    assert walk(Store(run)).damaged == [], "a manifest vouches for what is not there"
    assert forked(lambda: do(jobs, stage, run, second)) == 0
    assert files(run) == whole[stage]
    return len(redone(first, second))


@pytest.mark.parametrize("stage", ["select", "train"])
def test_power_lost_at_every_step(
    stage: str, jobs: Jobs, selected: Path, whole: Whole, tmp_path: Path, reached: Reached
) -> None:
    total = count(jobs, stage, begin(stage, selected, tmp_path / "count"))
    tried, tested, most = random.Random(7).sample(range(1, total + 1), size(4, total)), 0, 0
    for step in tried:
        run = begin(stage, selected, tmp_path / str(step))
        disk = cut(jobs, stage, run, step, frozenset())
        assert disk is not None
        for persists, tear in states(step):
            disk.cut(persists, tear)
            most, tested = max(most, recovered(jobs, stage, run, whole)), tested + 1
    assert most <= 1
    reached("R2", f"{stage}: power lost at {len(tried)} write steps, {tested} states of the disk: "
            f"the rerun's files byte-identical; shards redone: at most {most}")  # fmt: skip


@pytest.mark.parametrize("lost", ["fsync_file", "fsync_dir"])
def test_a_sync_left_out_is_found_out(
    lost: str, jobs: Jobs, selected: Path, tmp_path: Path, reached: Reached
) -> None:
    """Negative control: a store that does not sync loses or tears what it vouched for."""
    run = begin("select", selected, tmp_path / "all")
    disk = cut(jobs, "select", run, 120, frozenset({lost}))
    assert disk is not None
    red = 0
    for persists, tear in states(1):
        disk.cut(persists, tear)
        found = walk(Store(run))
        begun = (run.parent / "first").read_text().splitlines()
        kept = [rel for rel in begun[:-1] if rel in found.manifests and rel not in found.damaged]
        red += bool(found.damaged) or len(kept) < len(begun) - 1
    assert red
    reached("R2", f"negative control, {lost} left out: {red} of 3 states of the disk found out")
