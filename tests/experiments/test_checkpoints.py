"""A run whose training was killed, and one trained by two processes of torchrun."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pilotfish.config import parse_method
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.errors import DamagedRun
from pilotfish.experiments import train as flow
from pilotfish.experiments.train import train_arms
from pilotfish.progress import Silent
from pilotfish.scoring.score import score
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
from tests.experiments.worlds import World, manifest

ARM = "train/selected/seed-0"
SETTINGS = ["train.max_steps=5", "train.save_steps=2", "train.per_device_train_batch_size=4"]


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def ready(world: World) -> Run:
    """Scored and selected, not trained."""
    method = parse_method("perplexity(direction=low)")
    run = score(str(world.out), Source(world.pool), ScoreConfig(world.weak, [method]))
    select(run.root, SelectConfig(method, "6rows"))
    return run


def go(world: World, **how: Any) -> list[dict[str, Any]]:
    how = {"arms": ["selected"], "overrides": SETTINGS, **how}
    return train_arms(str(world.out), world.strong, **how)


def kill(world: World, at: int, **how: Any) -> None:
    """Train in a copy of this process, which dies in the middle of a step."""
    child = os.fork()
    if child == 0:
        from pilotfish.training import loop

        real, calls = loop.optimizer_step, [0]

        def moving(*args: Any) -> None:
            calls[0] += 1
            if calls[0] == at:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*args)

        loop.optimizer_step = moving
        try:
            go(world, **how)
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def bytes_below(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def saved(run: Run) -> list[str]:
    return sorted(path.name for path in (run.root / ARM).glob("ckpt-*"))


def test_a_killed_arm_goes_on_and_leaves_no_trace(world: World, ready: Run) -> None:
    go(world)
    whole = bytes_below(ready.root / "train")
    go(world, overrides=[*SETTINGS, "train.save_steps=1", "train.save_seconds=5"])
    assert bytes_below(ready.root / "train") == whole, "how often to save decides no weight"
    ready.store.forget(f"{ARM}/manifest.json")
    kill(world, at=5)
    assert saved(ready) == ["ckpt-00000002", "ckpt-00000004"]
    go(world)
    assert bytes_below(ready.root / "train") == whole
    assert not list(ready.root.rglob(".tmp-*"))


def test_another_setting_does_not_go_on_from_the_old_ones(world: World, ready: Run) -> None:
    kill(world, at=5)
    heard = Notes()
    go(world, overrides=[*SETTINGS, "train.weight_decay=0.3"], progress=heard)
    assert sum("not resumed" in text for text in heard.said) == 2
    assert manifest(ready, "selected")["made_from"]["config"]["weight_decay"] == 0.3
    assert saved(ready) == []


def test_a_damaged_checkpoint_is_named_and_none_left_is_exit_6(world: World, ready: Run) -> None:
    kill(world, at=5)
    heard = Notes()
    newest, before = (ready.root / ARM / name for name in reversed(saved(ready)))
    (newest / "optimizer.safetensors").write_bytes(b"")
    kill(world, at=2, progress=heard)
    (before / "trail.json").unlink()
    with pytest.raises(DamagedRun, match=before.name) as caught:
        go(world)
    assert caught.value.exit_code == 6
    go(world, force=True, progress=heard)
    assert saved(ready) == [] and manifest(ready, "selected")["steps"] == 5


def test_what_a_finished_arm_left_is_removed(world: World, ready: Run) -> None:
    kill(world, at=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "forget_checkpoints", lambda run, folder: None)
        go(world)
    assert saved(ready)
    go(world)
    assert saved(ready) == []


def test_torchrun_trains_one_run_with_two_processes(world: World, ready: Run) -> None:
    """Rank 0 alone takes the lock, commits and prints; the model is the one that one makes."""
    words = ["train", str(world.out), "--strong", world.strong, "--json", "--quiet"]
    words += ["--loss", "mix(lm=0.7, kd=0.3)"]
    changes = ["train.per_device_train_batch_size=2", "train.max_steps=5", "train.parallel=fsdp"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "pilotfish", *words, *(word for change in changes for word in ("--set", change))],
        capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert len(told["models"]) == 1
    both = manifest(ready, "selected")
    assert both["batch_size"] == 4 and both["made_from"]["world"] == 2
    log = ready.root / ARM / "log.jsonl"
    two = [json.loads(line) for line in log.read_text().splitlines()]
    go(
        world, loss="mix(lm=0.7, kd=0.3)",
        overrides=["train.per_device_train_batch_size=4", "train.max_steps=5"],
    )  # fmt: skip
    one = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["tokens"] for line in one] == [line["tokens"] for line in two]
    for line, other in zip(one, two, strict=True):
        assert other["loss"] == pytest.approx(line["loss"], rel=1e-5)
