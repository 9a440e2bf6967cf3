"""The grid on the tiny world: a recipe of three budgets, with controls for tokens and FLOPs."""

from pathlib import Path

import pytest

from pilotfish.arms.arms import grid_for
from pilotfish.config import make_recipe, read_recipe
from tests.examples.test_tinystories import load


def test_its_recipe_is_a_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["make", "--out", str(tmp_path)])
    load("compare_world").main()
    recipe = make_recipe(read_recipe(tmp_path / "recipe.yaml"))
    assert recipe.all_budgets == ["30%", "10%", "5%"] and recipe.n_seeds == 3
    names = {arm.name for arm in grid_for(recipe)}
    controls = {"random", "random_tokens", "random_compute", "length_matched"}
    assert {f"{arm}@5pct" for arm in controls | {"selected"}} < names
    assert Path(recipe.data).exists() and set(recipe.gates) == {
        "not_below_base", "not_below_random",
    }  # fmt: skip
