"""Early stopping: which weights are kept, when it ends, and that a kill changes nothing."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pilotfish.config import TrainConfig
from pilotfish.errors import UsageError
from pilotfish.models import load
from pilotfish.store import Store
from pilotfish.training import loop
from pilotfish.training.checkpoint import Checkpoints
from pilotfish.training.data.rows import encode_rows
from pilotfish.training.setup import Student
from pilotfish.training.trainer import train
from pilotfish.training.validation import EarlyStopping, StopRule, held_out_loss
from tests.training.conftest import weights
from tests.training.words import backwards

LEARNT, HELD, TRUE = backwards(12), backwards(6, seed=5), backwards(6, seed=6)
CONFIG = TrainConfig(
    per_device_train_batch_size=4, max_steps=40, learning_rate=2e-2, lr_scheduler_type="constant",
    stop="weak", stop_every=2, stop_patience=3,
)  # fmt: skip


def call(llama: str, folder: Path, config: TrainConfig = CONFIG, **more: Any) -> dict[str, Any]:
    validation = {"weak": HELD, "gold": TRUE}
    more = {"validation": validation, **more}
    return train(LEARNT, llama, config, seed=0, folder=folder, **more)


def loss_of(folder: Path, rows: Any) -> float:
    loaded = load(str(folder), device="cpu", precision="fp32")
    return held_out_loss(
        Student(loaded, loaded.model, False, False), encode_rows(rows, loaded, 256)
    )


@pytest.mark.parametrize("stop", ["weak", "gold"])
@pytest.mark.parametrize("use_peft", [False, True])
def test_the_best_weights_are_saved_and_both_curves_told(
    stop: str, use_peft: bool, llama: str, tmp_path: Path
) -> None:
    facts = call(llama, tmp_path, CONFIG.changed({"stop": stop, "use_peft": use_peft}))
    curve = facts["validation"]
    best = min(curve, key=lambda look: look[stop])
    assert facts["kept_step"] == best["step"] and facts["stopped_by"] == stop
    assert facts["oracle"] == (stop == "gold")
    for name, rows in (("weak", HELD), ("gold", TRUE)):
        assert loss_of(tmp_path, rows) == pytest.approx(best[name], rel=1e-4)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    seen = [{"step": line["step"], **line["validation"]} for line in log if "validation" in line]
    assert seen == curve[1:] and curve[0]["step"] == 0
    assert [look["step"] for look in seen] == list(range(2, len(log) + 1, 2))


def test_it_ends_when_patience_does(llama: str, tmp_path: Path) -> None:
    facts = call(llama, tmp_path)
    assert facts["stopped_early"] and facts["steps"] < 40
    assert facts["steps"] - facts["kept_step"] == 2 * 3
    patient = call(llama, tmp_path / "b", CONFIG.changed({"stop_patience": 99}))
    assert patient["steps"] == 40 and not patient["stopped_early"]
    assert patient["validation"][: len(facts["validation"])] == facts["validation"]


def test_looking_changes_nothing_that_is_learnt(llama: str, tmp_path: Path) -> None:
    lora = {"use_peft": True, "lora_dropout": 0.2, "max_steps": 8, "learning_rate": 1e-3}
    call(llama, tmp_path / "a", CONFIG.changed({**lora, "stop_patience": 99}))
    call(llama, tmp_path / "b", CONFIG.changed({**lora, "stop": "none"}))
    lines = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in "ab"
    ]
    looked = [{k: v for k, v in line.items() if k != "validation"} for line in lines[0]]
    assert looked == lines[1]


class Killed(Exception):
    """A training that ends before it should."""


@pytest.mark.parametrize("at", [1, 4, 5, 9])
def test_a_killed_training_goes_on_to_the_same_bits(
    at: int, llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = call(llama, tmp_path / "whole")
    where = Checkpoints(Store(tmp_path / "store"), "train/a/seed-0", "k", steps=1)
    real, count = loop.optimizer_step, [0]

    def moving(*args: Any) -> None:
        count[0] += 1
        if count[0] == at + 1:
            raise Killed
        real(*args)

    monkeypatch.setattr(loop, "optimizer_step", moving)
    with suppress(Killed):
        call(llama, tmp_path / "cut", checkpoints=where)
    monkeypatch.setattr(loop, "optimizer_step", real)
    again = call(llama, tmp_path / "again", checkpoints=where)
    assert again == whole
    assert weights(tmp_path / "again") == weights(tmp_path / "whole")
    logs = [(tmp_path / name / "log.jsonl").read_bytes() for name in ("whole", "again")]
    assert logs[0] == logs[1]


def test_one_killed_after_its_end_makes_no_further_step(
    llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Checkpoints(Store(tmp_path / "store"), "train/a/seed-0", "k", steps=1)
    whole = call(llama, tmp_path / "whole", checkpoints=where)

    def moving(*args: Any) -> None:
        raise AssertionError("a step was made")

    monkeypatch.setattr(loop, "optimizer_step", moving)
    assert call(llama, tmp_path / "again", checkpoints=where) == whole


class Scripted(EarlyStopping):
    """Sees losses that were written down beforehand."""

    def __init__(self, losses: list[float], patience: int) -> None:
        super().__init__(Nothing(), {"weak": None}, StopRule("weak", 1, patience), bf16=False)  # type: ignore[arg-type, dict-item]
        self.script = iter(losses)

    def _loss(self, rows: Any) -> float:
        return next(self.script)


class Nothing:
    """A learner without weights."""

    def named_parameters(self) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("losses", "ends", "kept"),
    [
        ([3, 2, 1, 1, 1], 4, 2),
        ([3, 4, 2, 5, 5, 0], 4, 2),
        ([1, 2, 3], 2, 0),
        ([3, float("nan"), float("inf")], 2, 0),
        ([float("nan"), 5, 6, 7], 3, 1),
    ],
)
def test_when_it_ends_and_what_is_kept(losses: list[float], ends: int, kept: int) -> None:
    watch = Scripted(losses, patience=2)
    looks = 0
    while not watch.over:
        watch.evaluate(looks)
        looks += 1
    assert looks - 1 == ends
    assert watch._kept == kept
    json.dumps(watch._by_name(watch._history[-1]), allow_nan=False)


def test_a_look_every_twentieth_of_the_steps_and_at_the_end() -> None:
    rule = StopRule.of("weak", 130, every=None, patience=1)
    assert rule.every == 6 and StopRule.of("weak", 5, every=None, patience=1).every == 1
    watch = Scripted([], patience=1)
    watch._rule = rule
    due = [step for step in range(1, 131) if watch.due(step, 130)]
    assert due == [*range(6, 130, 6), 130]


def test_rows_to_stop_by_must_be_there(llama: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no held-out rows 'gold'"):
        call(llama, tmp_path, CONFIG.changed({"stop": "gold"}), validation={"weak": HELD})
