"""The demo's settings make valid recipes and small worlds."""

from pathlib import Path

import pytest
import yaml

from pilotfish.config.recipe import make_recipe
from pilotfish.world.demo import DEMO, Setting, build_world, recipe_of


@pytest.mark.parametrize("setting", DEMO.settings, ids=lambda setting: setting.dirty)
def test_settings_are_an_ordinary_recipe(setting: Setting, tmp_path: Path) -> None:
    world = build_world(setting, tmp_path, seed=0)
    plain = recipe_of(setting, world, seed=5)
    assert yaml.safe_load(yaml.safe_dump(plain)) == plain
    recipe = make_recipe(plain)
    assert Path(recipe.data) == world.pool
    assert (recipe.seed, recipe.n_seeds, recipe.evidence) == (5, setting.seeds, "full")
    assert recipe.train.max_steps == DEMO.steps
    assert recipe.tune.max_steps == DEMO.tune_steps
    assert len(world.pool.read_text().splitlines()) == setting.pool_rows


def test_the_dirty_pool_has_three_seeds_and_a_kd_arm_and_the_clean_one_is_smaller() -> None:
    dirty, clean = DEMO.settings
    assert (dirty.dirty, clean.dirty) == ("dirty", "clean")
    assert dirty.seeds >= 3
    assert any("kd" in loss for loss in dirty.losses.values())
    assert {"random", "length_matched", "selected", "trusted_random"} <= set(dirty.arms)
    assert clean.seeds * len(clean.arms) < dirty.seeds * len(dirty.arms)
