"""Variants: arms of the table trained in another way."""

import pytest

from pilotfish.arms.arms import Arm, arms_for
from pilotfish.config import Recipe, TrainConfig, make_recipe
from pilotfish.errors import UsageError


def recipe(**more: object) -> Recipe:
    return make_recipe({"data": "rows.jsonl", "weak": "w", "strong": "s", **more})


def arms(asked: Recipe, *, trusted: bool = False) -> dict[str, Arm]:
    found = arms_for("quick", trusted=trusted, variants=asked.all_variants)
    return {arm.name: arm for arm in found}


def test_a_variant_takes_the_rows_of_its_arm_and_changes_only_what_it_names() -> None:
    asked = recipe(
        train={"max_steps": 7, "loss": "kd"},
        variants={"slow": {"of": "relabel_all", "train": {"learning_rate": 1e-5}}},
    )
    short = arms(asked)["slow"]
    assert short.rows == "relabelled"
    assert short.config(asked.train).learning_rate == 1e-5
    assert short.config(asked.train).loss == "kd"
    assert arms(asked)["selected"].config(asked.train) == asked.train


def test_losses_are_short_for_variants_of_the_selected_arm() -> None:
    short = arms(recipe(losses={"mixed": "mix(lm=1, kd=1)"}))["mixed"]
    assert (short.selection, short.config(TrainConfig()).loss) == ("selected", "mix(lm=1, kd=1)")


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ({"selected": {}}, "an arm of its own"),
        ({"x": {"of": "selcted"}}, "did you mean 'selected'"),
        ({"x": {"of": "weak"}}, "is not trained, so it has no variants"),
        ({"x": {"of": "trusted"}}, "needs trusted rows"),
    ],
)
def test_what_no_variant_can_be_is_refused(variants: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        arms(recipe(variants=variants))


@pytest.mark.parametrize(
    ("train", "said"),
    [({"learning_rte": 3}, "did you mean 'learning_rate'"), ({"lora_r": 0}, r"train\.lora_r")],
)
def test_settings_of_a_variant_are_checked_before_anything_starts(
    train: dict[str, int], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        recipe(variants={"x": {"train": train}})


@pytest.mark.parametrize("length", ["max_steps", "num_train_epochs"])
def test_no_variant_is_longer_than_the_others(length: str) -> None:
    with pytest.raises(UsageError, match="every arm takes the same number of steps"):
        recipe(variants={"x": {"train": {length: 3}}})
