"""R11: SIGINT and SIGTERM at any moment: out within 5 s, the right code, nothing lost."""

import ctypes
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from pilotfish.cli.main import GRACE, handle_signals
from pilotfish.cli.main import run as run_command
from pilotfish.engine import scorer
from pilotfish.store import run_lock
from tests.experiments.worlds import World
from tests.figures import Reached, size
from tests.torture.doubles import forked
from tests.torture.jobs import METHOD, Jobs, files

pytestmark = pytest.mark.torture

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
WITHIN = 5.0
door = import_module("pilotfish.cli.main")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, jobs: Jobs) -> World:
    return World(tmp_path_factory.mktemp("world"), jobs.weak, jobs.strong)


def arguments(world: World, run: Path) -> list[str]:
    path = run.parent / "recipe.yaml"
    settings = world.settings(trusted=world.trusted)
    path.write_text("".join(f"{key}: {value!r}\n" for key, value in settings.items()))
    return ["run", str(path), "--out", str(run), "--quiet"]


def lasting(run: Path) -> dict[str, str]:
    """All but the report, whose ledger tells what was paid for a second time."""
    return {name: digest for name, digest in files(run).items() if not name.startswith("report.")}


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """What nobody disturbed, and how long it took in a copy of this process."""
    run, start = tmp_path_factory.mktemp("whole") / "run", time.monotonic()
    forked(lambda: run_command(arguments(world, run)))
    assert (run / "report.json").exists()
    return lasting(run), time.monotonic() - start


class Told:
    """How a process ended after a signal."""

    def __init__(self, code: int, took: float, err: str) -> None:
        self.code, self.took, self.err = code, took, err


def copied(words: list[str], err: Path, grace: float = GRACE) -> int:
    """A copy of this process that answers signals as `pilotfish` does; its process id."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            door.GRACE = grace
            for number, file in ((1, err.with_name("out")), (2, err)):
                os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY), number)
            sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
            handle_signals("--json" in words)
            os.write(write, b"!")
            code = run_command(words)
            sys.stdout.flush()
            os._exit(code)
        finally:
            os._exit(1)
    assert os.read(read, 1) == b"!"
    return child


def signalled(child: int, err: Path, after: float, *signals: int) -> Told:
    """Send signals to a process after some seconds, and wait for its end."""
    time.sleep(after)
    start = time.monotonic()
    for number in signals:
        os.kill(child, number)
        time.sleep(0.05 * (len(signals) > 1))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Told(code, time.monotonic() - start, err.read_text())


def check(told: Told, signum: int, run: Path) -> bool:
    """Whether the signal came before the end; whatever it met, it ended well."""
    assert told.took < WITHIN and "Traceback" not in told.err
    assert told.code in (0, CODES[signal.Signals(signum)]), told.err
    if told.code:
        assert told.err.count("finished work is kept") == 1
        assert not list(run.rglob(".tmp-*"))
    return told.code != 0


def test_signals_at_any_moment(
    world: World, whole: tuple[dict[str, str], float], tmp_path: Path, reached: Reached
) -> None:
    left, seconds = whole
    count, stopped, longest = size(2, 20), 0, 0.0
    for number in range(count):
        folder = tmp_path / str(number)
        folder.mkdir()
        words, err = arguments(world, folder / "run"), folder / "err"
        signum = (signal.SIGINT, signal.SIGTERM)[number % 2]
        told = signalled(copied(words, err), err, seconds * (number + 0.5) / count, signum)
        stopped += check(told, signum, folder / "run")
        longest = max(longest, told.took)
        forked(lambda words=words: run_command(words))
        assert lasting(folder / "run") == left
    assert stopped
    reached("R11", f"{stopped} of {count} moments of a run: SIGINT 130, SIGTERM 143, one sentence, "
            f"out after at most {longest:.1f} s; the rerun's files byte-identical")  # fmt: skip


def test_a_step_without_end_is_not_waited_for(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: Reached
) -> None:
    """The main thread is in a call of C, and hears of no signal meanwhile."""
    monkeypatch.setattr(scorer, "measure_pass", partial(deaf, tmp_path / "begun"))
    words = ["score", jobs.data, "--weak", jobs.weak, "--method", "ifd", "--out",
             str(tmp_path / "run"), "--quiet", "--json"]  # fmt: skip
    grace = size(0.5, GRACE)
    child = deafened(copied(words, tmp_path / "err", grace), tmp_path)
    told = signalled(child, tmp_path / "err", 0, signal.SIGTERM)
    assert (told.code, told.err.count("finished work is kept")) == (143, 1)
    assert json.loads((tmp_path / "out").read_text())["exit"] == 143
    assert grace <= told.took < WITHIN  # the step had its time, and no more
    reached("R11", f"in the middle of a step without end: out after {told.took:.1f} s, one object "
            "with --json")  # fmt: skip


def deafened(child: int, folder: Path) -> int:
    """The process, once it is deep in its long step: its main thread sleeps on and on."""
    asleep, stat = 0, Path(f"/proc/{child}/task/{child}/stat")
    while asleep < 20:
        still = (folder / "begun").exists() and stat.read_text().rpartition(")")[2].split()[
            0
        ] == "S"
        asleep = asleep + 1 if still else 0
        time.sleep(0.01)
    return child


def deaf(begun: Path, *args: object, **more: object) -> None:
    """Be in one call of a library for ever: no line of Python runs in this thread.

    A lock taken twice, and not a long sum: no signal cuts it short, and no machine is quick at it.
    """
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)
    begun.touch()
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def test_the_second_signal_means_now(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: Reached
) -> None:
    """Sooner than the step's time is up, which is a minute here."""
    monkeypatch.setattr(scorer, "measure_pass", partial(deaf, tmp_path / "begun"))
    words = ["score", jobs.data, "--weak", jobs.weak, "--method", "ifd", "--out",
             str(tmp_path / "run"), "--quiet"]  # fmt: skip
    child = deafened(copied(words, tmp_path / "err", 60), tmp_path)
    told = signalled(child, tmp_path / "err", 0, signal.SIGINT, signal.SIGINT)
    assert told.code == 130 and told.took < WITHIN
    reached("R11", f"the second signal: out after {told.took:.1f} s")


@pytest.mark.slow
def test_real_processes_from_their_first_moment(
    world: World, tmp_path: Path, reached: Reached
) -> None:
    """While libraries are loaded too; an interpreter that has read no line of ours is not asked."""
    words = started(world, tmp_path / "whole")
    assert subprocess.run(words, capture_output=True).returncode == 0
    left, draw, codes = lasting(tmp_path / "whole/run"), random.Random(3), Counter[int]()
    for number in range(size(1, 2)):
        words, run = started(world, tmp_path / str(number)), tmp_path / str(number) / "run"
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):  # each goes on from the last
            child = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
            time.sleep(draw.uniform(1, 6))
            child.send_signal(signum)
            _, err = child.communicate(timeout=WITHIN)
            assert "Traceback" not in err
            assert child.returncode in (0, CODES[signum]) or (
                # before our first line or behind the last one Python dies of the signal itself
                child.returncode == -signum and untouched_or_done(run)
            )
            codes[child.returncode] += 1
        assert subprocess.run(words, capture_output=True).returncode == 0
        assert lasting(run) == left
    reached(
        "R11",
        f"real processes, signalled from their first second on: {codes[143]} ended "
        f"with 143, {codes[130]} with 130, {codes[0]} had finished; the files are the same",
    )


def test_a_rank_that_waits_is_not_waited_for(jobs: Jobs, tmp_path: Path, reached: Reached) -> None:
    """Another rank is planning, and will be for long."""
    run = tmp_path / "run"
    words = ["score", jobs.data, "--weak", jobs.weak, "--method", METHOD, "--out", str(run),
             "--json", "--executor", "ranks", "--rank", "1", "--world", "2"]  # fmt: skip
    with run_lock(run):
        child = copied(words, tmp_path / "err", 60)
        while "waiting for the rank" not in (tmp_path / "err").read_text():
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
            time.sleep(0.01)
        told = signalled(child, tmp_path / "err", 0, signal.SIGINT)
    assert told.code == 130 and told.took < WITHIN and told.err.count("finished work is kept") == 1
    assert json.loads((tmp_path / "out").read_text())["exit"] == 130
    reached("R11", f"a rank that waits for another one: out after {told.took:.1f} s")


@pytest.mark.slow
def test_a_wait_that_swallows_signals_is_found_out(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: Reached
) -> None:
    """Negative control: without the thread a long step is waited for."""
    monkeypatch.setattr(door, "_exit_in_time", lambda *args: None)
    monkeypatch.setattr(scorer, "measure_pass", partial(deaf, tmp_path / "begun"))
    words = ["score", jobs.data, "--weak", jobs.weak, "--method", "ifd", "--out",
             str(tmp_path / "run"), "--quiet"]  # fmt: skip
    child = deafened(copied(words, tmp_path / "err", 0.2), tmp_path)
    os.kill(child, signal.SIGTERM)
    time.sleep(3)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)  # 2.8 s late, and still there
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    reached("R11", "negative control, nobody watches over a long step: red")


def untouched_or_done(run: Path) -> bool:
    return not run.exists() or (run / "report.manifest.json").exists()


def started(world: World, folder: Path) -> list[str]:
    """The command of a real process on a run in this folder."""
    folder.mkdir()
    return [sys.executable, "-m", "pilotfish", *arguments(world, folder / "run")]
