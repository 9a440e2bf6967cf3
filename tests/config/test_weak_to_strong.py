"""The recipe of a weak-to-strong experiment: what it refuses, and in which words."""

from typing import Any

import pytest

from pilotfish.config import Recipe, WeakToStrong, make_weak_to_strong, recipe_schema
from pilotfish.errors import UsageError

LEAST = {"data": "d.jsonl", "weak": "w", "strong": "s"}


def refused(**changes: Any) -> str:
    with pytest.raises(UsageError) as caught:
        make_weak_to_strong({**LEAST, **changes})
    return f"{caught.value} {caught.value.hint or ''}"


def test_the_least_recipe_asks_for_three_seeds_and_both_controls() -> None:
    recipe = make_weak_to_strong(LEAST)
    assert (recipe.seeds, recipe.controls) == (3, ["self_training", "gold_half"])


def test_what_is_misspelt_is_named_with_its_neighbour() -> None:
    assert "did you mean 'filters'" in refused(filter={})
    assert "did you mean 'max_steps'" in refused(weak_train={"max_step": 3})
    assert "lacks 'strong'" in refused_without("strong")


def refused_without(name: str) -> str:
    with pytest.raises(UsageError) as caught:
        make_weak_to_strong({key: value for key, value in LEAST.items() if key != name})
    return str(caught.value)


@pytest.mark.parametrize("name", ["weak", "ceiling", "naive", "gold_half", "Loud", "a/b", ""])
def test_an_arm_cannot_take_a_reserved_name_or_one_that_is_no_folder(name: str) -> None:
    assert "arm" in refused(losses={name: "lm"})
    assert "arm" in refused(filters={name: "confidence"})


def test_one_name_for_two_arms_is_refused() -> None:
    assert "both" in refused(losses={"x": "lm"}, filters={"x": "confidence"})


def test_the_arms_decide_the_loss_and_no_rate_is_searched() -> None:
    assert "arms decide the loss" in refused(train={"loss": "kd"})
    assert "one value" in refused(weak_train={"learning_rate": [1e-3, 1e-4]})


def test_paths_are_filled_in_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROWS_AT", "/rows")
    recipe = make_weak_to_strong({**LEAST, "data": "$ROWS_AT/a.tsv", "test": "${ROWS_AT}/b.tsv"})
    assert (recipe.data, recipe.test) == ("/rows/a.tsv", "/rows/b.tsv")
    monkeypatch.delenv("ROWS_AT")
    assert "no ROWS_AT" in refused(data="$ROWS_AT/a.tsv")


def test_set_reaches_into_blocks() -> None:
    recipe = make_weak_to_strong(LEAST, ["train.max_steps=7", "losses.logconf=logconf"])
    assert recipe.train.max_steps == 7
    assert recipe.losses == {"logconf": "logconf"}


def test_the_schema_holds_every_setting_of_both_kinds_of_recipe() -> None:
    found = recipe_schema()
    for kind in (Recipe, WeakToStrong):
        assert {*found["$defs"][kind.__name__]["properties"]} == {*kind.model_fields}
        assert found["$defs"][kind.__name__]["additionalProperties"] is False
    assert found["if"] == {"required": ["experiment"]}
