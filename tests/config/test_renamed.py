"""Keys of older recipes: read under their new names, named once, and never next to the new one."""

import logging
from pathlib import Path
from typing import Any

import pytest

from pilotfish.config import make_recipe, read_recipe, recipe_schema, upgrade_settings
from pilotfish.config.recipe import Recipe
from pilotfish.config.settings import RENAMED
from pilotfish.errors import UsageError

BASE: dict[str, Any] = {"data": "d.jsonl", "weak": "w", "strong": "s"}
OLD = """
data: d.jsonl
weak: w
strong: s
tune: {learning_rate: 1.0e-3}
money: {per_hour: 2.5}
equal: [steps, tokens]
choose: split
"""


def test_an_older_recipe_is_read_and_one_line_names_the_new_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(OLD)
    with caplog.at_level(logging.WARNING, "pilotfish"):
        recipe = make_recipe(read_recipe(path), ["tune.max_length=512"])
    assert (recipe.weak_train.learning_rate, recipe.weak_train.max_length) == (1e-3, 512)
    assert recipe.pricing is not None and recipe.pricing.per_hour == 2.5
    assert (recipe.matched_on, recipe.method_selection) == (["steps", "tokens"], "split")
    assert caplog.messages == [
        "renamed recipe keys: `tune` is now `weak_train`, `money` is now `pricing`, "
        "`equal` is now `matched_on`, `choose` is now `method_selection`"
    ]


def test_todays_keys_are_read_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    make_recipe({**BASE, "weak_train": {"max_length": 256}}, ["matched_on=[tokens]"])
    assert not caplog.messages


@pytest.mark.parametrize(
    ("settings", "overrides"),
    [({"tune": {}, "weak_train": {}}, []), ({}, ["tune.max_length=9", "weak_train.max_length=8"])],
)
def test_an_old_key_next_to_its_new_name_is_refused(
    settings: dict[str, Any], overrides: list[str]
) -> None:
    with pytest.raises(UsageError, match="`tune` is the old name of `weak_train`"):
        make_recipe({**BASE, **settings}, overrides)


def test_settings_of_an_older_run_get_todays_keys() -> None:
    old = {"seed": 3, "tune": {"max_length": 512}, "money": None, "equal": ["steps"]}
    new = {"seed": 3, "weak_train": {"max_length": 512}, "pricing": None, "matched_on": ["steps"]}
    assert upgrade_settings(old) == upgrade_settings(new) == new


def test_every_new_name_is_a_setting_and_no_old_one_is() -> None:
    assert {*RENAMED.values()} <= {*Recipe.model_fields}
    assert not {*RENAMED} & {*recipe_schema()["$defs"]["Recipe"]["properties"]}
