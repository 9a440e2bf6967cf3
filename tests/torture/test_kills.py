"""R1, on top of the sweep: real processes killed at random times, and run again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pilotfish.cli.main import run as run_command
from pilotfish.scoring.multi_rank import PLAN
from tests.experiments.worlds import World
from tests.figures import Reached, size
from tests.torture.jobs import Jobs, files
from tests.torture.test_signals import arguments, lasting

pytestmark = pytest.mark.torture


def command(world: World, folder: Path) -> list[str]:
    folder.mkdir()
    return [sys.executable, "-m", "pilotfish", *arguments(world, folder / "run")]


@pytest.mark.slow
def test_real_processes_killed_at_random_times(
    jobs: Jobs, tmp_path: Path, reached: Reached
) -> None:
    world = World(tmp_path, jobs.weak, jobs.strong)
    words, start = command(world, tmp_path / "whole"), time.monotonic()
    assert subprocess.run(words, capture_output=True).returncode == 0
    whole, seconds = lasting(tmp_path / "whole/run"), time.monotonic() - start
    draw, killed = random.Random(20), 0
    for number in range(size(1, 10)):
        words, run = command(world, tmp_path / str(number)), tmp_path / str(number) / "run"
        for share in (draw.uniform(0.1, 0.8), draw.uniform(0.1, 0.5)):  # and once more on the way
            child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(share * seconds)
            child.kill()
            killed += child.wait() < 0
        kept = committed(run)
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert lasting(run) == whole
        assert kept.items() <= committed(run).items()
        assert not [name for name in files(run) if ".tmp-" in name]
    assert killed
    reached("R1", f"{killed} SIGKILLs of real processes at random times of `run`: the rerun's "
            "files byte-identical, no leftovers, no finished shard redone")  # fmt: skip


def committed(run: Path) -> dict[str, int]:
    """Every shard whose manifest stands, and which file on the disk it is."""
    return {
        str(path.relative_to(run)): path.with_suffix(".parquet").stat().st_ino
        for folder in ("pool", "signals")
        for path in run.glob(f"{folder}/**/part-*.json")
    }


def rank(jobs: Jobs, run: Path, place: int) -> int:
    """One of two equal ranks, in a copy of this process; its process id."""
    words = ["score", jobs.data, "--weak", jobs.weak, "--method", "superfiltering",
             "--out", str(run), "--quiet", "--executor", "ranks", "--rank", str(place),
             "--world", "2"]  # fmt: skip
    child = os.fork()
    if child == 0:
        try:
            os._exit(run_command(words))
        finally:
            os._exit(1)
    return child


def lasts(name: str) -> bool:
    """Not what ranks at work tell each other, nor a file that one of them was about to put down."""
    return name != PLAN and not name.startswith(("leases/", ".tmp-"))


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_one_of_two_ranks_killed_at_random_times(
    jobs: Jobs, tmp_path: Path, reached: Reached
) -> None:
    whole, start = tmp_path / "whole", time.monotonic()
    assert [ended(child) for child in [rank(jobs, whole, place) for place in (0, 1)]] == [0, 0]
    seconds, draw, killed = time.monotonic() - start, random.Random(8), 0
    for number in range(size(2, 20)):
        run = tmp_path / str(number)
        ranks = [rank(jobs, run, place) for place in (0, 1)]
        time.sleep(draw.uniform(0, 0.9) * seconds)
        kept, doomed, other = committed(run), ranks[number % 2], ranks[1 - number % 2]
        os.kill(doomed, signal.SIGKILL)
        killed += ended(doomed) < 0
        assert ended(other) == 0
        assert {name: digest for name, digest in files(run).items() if lasts(name)} == files(whole)
        if files(run) != files(whole):  # killed at the very end, where the last one puts away
            assert ended(rank(jobs, run, 0)) == 0
        assert kept.items() <= committed(run).items()
        assert files(run) == files(whole)
    assert killed
    reached("R1", f"one of two ranks killed {killed} times at random moments: the other one ends "
            "the run, to the same bytes; no finished shard redone; locks left at the very end go "
            "with the next command")  # fmt: skip
