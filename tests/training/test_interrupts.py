"""Signals while training: saved within seconds where that can be, and answered either way."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotfish.cli.main import _stop
from pilotfish.errors import Interrupted
from pilotfish.training import interrupts, loop
from pilotfish.training.interrupts import defer_interrupts
from pilotfish.training.trainer import train
from tests.training.test_checkpoint import ARM, FULL, STEPS, folder_bytes, trained, where
from tests.training.words import backwards


@pytest.fixture(autouse=True)
def as_the_command_line() -> Iterator[None]:
    """Signals are answered as `pilotfish` answers them, and as before afterwards."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def signal_in_step(patch: pytest.MonkeyPatch, at: int, signum: int, *, then: float = 0) -> None:
    """Send the signal to this process in the middle of a step, which goes on for `then` seconds."""
    real, calls = loop.optimizer_step, [0]

    def moving(*args: Any) -> None:
        calls[0] += 1
        if calls[0] == at:
            os.kill(os.getpid(), signum)
            time.sleep(then)
        real(*args)

    patch.setattr(loop, "optimizer_step", moving)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("step", [1, 4, STEPS])
def test_a_signal_lets_the_step_end_and_saves_it(
    step: int, signum: int, code: int, gpt2: str, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        signal_in_step(patch, step, signum)
        with pytest.raises(Interrupted) as caught:
            trained(gpt2, FULL, tmp_path / "model", where(tmp_path, steps=None))
    assert caught.value.exit_code == code
    assert [path.name for path in (tmp_path / ARM).iterdir()] == [f"ckpt-{step:08d}"]
    assert not (tmp_path / "model").exists()
    trained(gpt2, FULL, tmp_path / "model", where(tmp_path, steps=None))
    trained(gpt2, FULL, tmp_path / "whole", None)
    assert folder_bytes(tmp_path / "model") == folder_bytes(tmp_path / "whole")


def test_a_step_that_takes_too_long_is_not_waited_for(
    gpt2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupts, "GRACE", 0.2)
    signal_in_step(monkeypatch, 3, signal.SIGTERM, then=60)
    start = time.monotonic()
    with pytest.raises(Interrupted):
        trained(gpt2, FULL, tmp_path / "model", where(tmp_path))
    assert time.monotonic() - start < 10
    assert [path.name for path in (tmp_path / ARM).iterdir()] == ["ckpt-00000002"]


def test_a_save_that_takes_too_long_leaves_the_one_before(
    gpt2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pilotfish.store import fs_ops

    real = fs_ops.replace
    monkeypatch.setattr(interrupts, "GRACE", 0.2)

    def slow(source: Path, target: Path) -> None:
        time.sleep(60 if "00000003" in str(target) else 0)
        real(source, target)

    monkeypatch.setattr(fs_ops, "replace", slow)
    signal_in_step(monkeypatch, 3, signal.SIGINT)
    with pytest.raises(Interrupted):
        trained(gpt2, FULL, tmp_path / "model", where(tmp_path))
    assert not (tmp_path / ARM / "ckpt-00000003" / "manifest.json").exists()
    assert not list(tmp_path.rglob(".tmp-*"))
    monkeypatch.undo()
    trained(gpt2, FULL, tmp_path / "model", where(tmp_path))
    trained(gpt2, FULL, tmp_path / "whole", None)
    assert folder_bytes(tmp_path / "model") == folder_bytes(tmp_path / "whole")


def test_the_second_signal_means_now(monkeypatch: pytest.MonkeyPatch) -> None:
    child = os.fork()
    if child == 0:
        with defer_interrupts(True):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143


def test_signals_are_answered_as_before_once_training_is_over(gpt2: str, tmp_path: Path) -> None:
    trained(gpt2, FULL, tmp_path / "model", where(tmp_path))
    assert signal.getsignal(signal.SIGINT) is _stop and signal.getsignal(signal.SIGTERM) is _stop
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_without_checkpoints_nothing_is_held_back(
    gpt2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal_in_step(monkeypatch, 2, signal.SIGTERM, then=60)
    start = time.monotonic()
    with pytest.raises(Interrupted):
        train(backwards(20), gpt2, FULL, seed=3, folder=tmp_path / "model", steps=STEPS)
    assert time.monotonic() - start < 10
