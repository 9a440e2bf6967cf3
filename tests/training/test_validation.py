"""Looks at a model on the way: when, and that they change nothing."""

from pathlib import Path

import pytest

from pilotfish.config import TrainConfig
from pilotfish.models import Loaded, identify
from pilotfish.records import Example, Turn
from pilotfish.training.trainer import train
from pilotfish.training.validation import StepCallback
from tests.tiny.models import tiny_gpt2


def steps_of(count: int, steps: int) -> list[int]:
    looks = StepCallback(count, lambda step, loaded: None)
    return [step for step in range(1, steps + 1) if looks.at(step, steps)]


@pytest.mark.parametrize(
    ("count", "steps", "seen"),
    [(4, 100, [30, 50, 80, 100]), (2, 25, [20, 25]), (4, 3, [3]), (1, 95, [95]), (0, 50, [])],
)
def test_looks_are_spread_over_tenth_steps_and_end_with_the_last(
    count: int, steps: int, seen: list[int]
) -> None:
    assert steps_of(count, steps) == seen


def test_looking_changes_no_weight_and_sees_a_model_that_does_not_drop_out(tmp_path: Path) -> None:
    model = str(tiny_gpt2(tmp_path / "m"))  # GPT-2's dropout of 0.1 is in force while training
    turns = (Turn("user", "say a"), Turn("assistant", "a"))
    rows = [Example(f"{i}", "d", i, turns=turns) for i in range(8)]
    config = TrainConfig(max_steps=20, use_peft=False, per_device_train_batch_size=4)
    seen: list[tuple[int, bool]] = []

    def look(step: int, loaded: Loaded) -> None:
        seen.append((step, loaded.model.training))

    for name, looks in (("with", StepCallback(2, look)), ("without", None)):
        (tmp_path / name).mkdir()
        train(rows, model, config, seed=1, folder=tmp_path / name, callback=looks)
    assert seen == [(10, False), (20, False)]
    assert identify(str(tmp_path / "with")) == identify(str(tmp_path / "without"))
