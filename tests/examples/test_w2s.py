"""The weak-to-strong examples: valid recipes within their promised size, and rows as they say."""

import json
from pathlib import Path

import pytest

from pilotfish.config import make_weak_to_strong, read_recipe
from pilotfish.weak_to_strong.experiment import w2s_arms
from tests.examples.test_tinystories import EXAMPLES, load

RECIPES = sorted(EXAMPLES.glob("w2s_*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_valid_and_small(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTFISH_DATA", "/data")
    recipe = make_weak_to_strong(read_recipe(path))
    assert recipe.seeds >= 3 and (recipe.rows or 9999) <= 1500
    names = {arm.name for arm in w2s_arms(recipe, "soft_ce")}
    assert {"weak", "ceiling", "naive", "self_training", "gold_half"} <= names


def test_the_world_is_written_as_prompts_with_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["make", "--only", "world", "--out", str(tmp_path)])
    load("w2s_data").main()
    rows = [json.loads(line) for line in (tmp_path / "world.jsonl").read_text().splitlines()]
    assert len(rows) == 3000 and {*rows[0]} == {"prompt", "completion"}


def test_real_rows_are_read_without_a_broken_one(data_dir: Path) -> None:
    maker = load("w2s_data")
    questions, news = list(maker.trec(data_dir)), list(maker.agnews(data_dir))
    assert {row["label"] for row in questions} == {"ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"}
    assert {row["label"] for row in news} == {"Business", "Sci/Tech", "Sports", "World"}
    assert all(row["text"].strip() for row in [*questions, *news])
