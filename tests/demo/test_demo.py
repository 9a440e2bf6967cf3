"""The demo's settings make valid recipes and small worlds."""

from pathlib import Path

import pytest
import yaml

from pilotfish.config.recipe import make_recipe
from pilotfish.demo.noise import POOLS
from pilotfish.demo.world import CHAPTERS, DEMO, Chapter, build_world, settings


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_settings_are_an_ordinary_recipe(chapter: Chapter, tmp_path: Path) -> None:
    world = build_world(chapter, tmp_path, seed=0)
    plain = settings(chapter, world, 5)
    assert yaml.safe_load(yaml.safe_dump(plain)) == plain
    recipe = make_recipe(plain)
    assert Path(recipe.data) == world.pool
    assert (recipe.seed, recipe.n_seeds, recipe.evidence) == (5, chapter.seeds, "full")
    assert recipe.train.max_steps == DEMO.steps
    assert recipe.weak_train.learning_rate is None
    assert len(world.pool.read_text().splitlines()) == chapter.pool_rows
    assert world.rates == POOLS[chapter.name]


def test_the_dirty_pool_has_three_seeds_and_a_kd_arm_and_the_clean_one_is_smaller() -> None:
    dirty, clean = CHAPTERS
    assert (dirty.name, clean.name) == ("dirty", "clean")
    assert dirty.seeds >= 3
    assert any("kd" in loss for loss in dirty.losses.values())
    assert {"random", "length_matched", "selected", "trusted_random"} <= set(dirty.arms)
    assert clean.seeds * len(clean.arms) < dirty.seeds * len(dirty.arms)
