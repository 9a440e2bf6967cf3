"""R8: a second planner is turned away, death frees a run, late workers cannot corrupt it."""

import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pilotfish.cli.main import run as run_command
from pilotfish.diagnostics.verify import walk
from pilotfish.store import Store, run_lock
from tests.figures import Reached, size
from tests.torture.doubles import count_into, forked, on_every_step
from tests.torture.jobs import METHOD, Jobs, files

pytestmark = pytest.mark.torture


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[int]:
    """A process that does some work beside this one; killed and waited for at the end."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def hold(run: Path, held: Path) -> None:
    with run_lock(run):
        held.touch()
        time.sleep(600)


def test_a_second_planner_is_turned_away_at_once(
    jobs: Jobs, tmp_path: Path, reached: Reached
) -> None:
    run, held = tmp_path / "run", tmp_path / "held"
    words = ["score", jobs.data, "--weak", jobs.weak, "--method", METHOD, "--out", str(run)]
    with beside(lambda: hold(run, held)):
        while not held.exists():
            time.sleep(0.01)
        copies = [
            turned_away(lambda: forked(lambda: os._exit(run_command(words))))
            for _ in range(size(1, 9))
        ]
        whole, before = [sys.executable, "-m", "pilotfish", *words], spent()
        real = [
            turned_away(lambda: subprocess.run(whole, capture_output=True).returncode)
            for _ in copies
        ]
        work = (spent() - before) / len(real)
    # by the clock a busy machine takes any time over it: what it waits for itself is in `copies`
    assert statistics.median(copies) < 1
    assert work < 1
    assert run_command([*words, "--quiet"]) == 0  # the owner's death freed it
    reached("R8", f"a second planner: exit 75, {statistics.median(real):.2f} s after its process "
            f"was started ({work:.2f} s of a core), {statistics.median(copies):.2f} s after its "
            "libraries were loaded")  # fmt: skip
    reached("R8", "SIGKILL of the owner frees the run at once")


def turned_away(work: Callable[[], int]) -> float:
    """Seconds until a planner was told that the run is busy."""
    start = time.monotonic()
    assert work() == 75
    return time.monotonic() - start


def spent() -> float:
    """Seconds of a core that processes of this one took, as far as they have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def commit(run: Path, budget: int) -> None:
    """One shard as a worker commits it, with the token budget that fitted its memory."""
    store = Store(run)
    for part in ("one", "two"):
        with store.attempt(f"signals/{part}.json") as attempt:
            attempt.path(f"signals/{part}.parquet").write_text(f"numbers of {budget}" * 99)
            attempt.path(f"signals/{part}.txt").write_text("more")
            attempt.meta = {"token_budget": budget}


def stopped_at(step: int, run: Path, budget: int) -> None:
    """A worker that stops in the middle of its commit, and goes on when it is woken."""

    def before(here: int, name: str, args: tuple[object, ...]) -> None:
        if here == step:
            os.kill(os.getpid(), signal.SIGSTOP)

    on_every_step(before)
    commit(run, budget)


@pytest.mark.parametrize(("late", "what"), [(100, "the same"), (50, "another")])
def test_a_late_worker_cannot_corrupt(
    late: int, what: str, tmp_path: Path, reached: Reached
) -> None:
    """It is stopped at each step of its commit, another commits, then it goes on."""
    whole, counted = tmp_path / "whole", tmp_path / "steps"
    forked(lambda: (count_into(counted), commit(whole, 100)))
    steps, found_out, tried = len(counted.read_text().split()), 0, 0
    for step in range(1, steps + 1, size(6, 1)):
        run = tmp_path / str(step)
        with beside(lambda run=run, step=step: stopped_at(step, run, late)) as child:
            os.waitpid(child, os.WUNTRACED)
            forked(lambda run=run: commit(run, 100))
            os.kill(child, signal.SIGCONT)
            while running(child):
                time.sleep(0.002)
        damaged = walk(Store(run)).damaged
        assert not damaged or what == "another"
        found_out += bool(damaged)
        tried += 1
        if not damaged:  # then every group is one worker's, whole
            kept = {path.read_text()[11:14] for path in run.rglob("*.parquet")}
            assert kept <= {"100", "50n"}
        commit(run, 100)  # whoever comes next makes good what was found out
        assert walk(Store(run)).damaged == [] and files(run) == files(whole)
    reached("R8", f"late workers with {what} token budget, stopped at {tried} of {steps} steps: "
            f"{found_out} mixed groups, all found out; none used")  # fmt: skip


def running(child: int) -> bool:
    """Whether a child still has something to do."""
    state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
    return state not in ("Z", "X")
