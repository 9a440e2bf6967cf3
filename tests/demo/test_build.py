"""Worlds on disk: deterministic, honest about their noise, and silent about it in the rows."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pilotfish.demo.build import World, build
from pilotfish.demo.noise import CLEAN, DIRTY
from pilotfish.demo.splits import split_key, split_of
from pilotfish.demo.tasks import TASKS
from pilotfish.errors import UsageError


def small(folder: Path, *, seed: int = 0, dirty: Any = "dirty", pool_rows: int = 600) -> World:
    return build(
        folder, seed=seed, pool_rows=pool_rows, dirty=dirty, trusted_rows=80, test_rows=120
    )


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return small(tmp_path_factory.mktemp("world"))


def test_the_same_arguments_give_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    one, same, other = (
        small(tmp_path / name, seed=s) for name, s in (("a", 3), ("b", 3), ("c", 4))
    )
    for name in ("pool", "trusted", "test", "truth"):
        assert getattr(one, name).read_bytes() == getattr(same, name).read_bytes()
        assert getattr(one, name).read_bytes() != getattr(other, name).read_bytes()


def test_rows_carry_nothing_but_question_and_answer(world: World) -> None:
    for path, size in ((world.pool, 600), (world.trusted, 80), (world.test, 120)):
        found = rows(path)
        assert len(found) == size == len({row["id"] for row in found})
        assert all(set(row) == {"id", "prompt", "completion"} for row in found)


def test_ids_and_places_of_the_pool_do_not_give_the_noise_away(world: World) -> None:
    noisy = [bool(fact["noise"]) for fact in rows(world.truth)]
    half = len(noisy) // 2
    # Under a shuffle the halves differ by less than four standard deviations (.16 of 300).
    assert abs(sum(noisy[:half]) - sum(noisy[half:])) / half < 0.16
    assert [row["id"] for row in rows(world.pool)] == [f"pool-{n:05d}" for n in range(600)]


def test_noise_counts_are_the_stated_rates(world: World) -> None:
    counts = Counter(fact["noise"] for fact in rows(world.truth))
    assert {name: counts[name] for name in DIRTY} == {n: round(r * 600) for n, r in DIRTY.items()}
    assert counts[""] == 600 - sum(counts[name] for name in DIRTY)


def test_the_truth_agrees_with_the_tasks(world: World) -> None:
    for row, fact in zip(rows(world.pool), rows(world.truth), strict=True):
        name, argument = row["prompt"].split(":", 1)
        task = TASKS[name.strip().lower()]
        answer = task.right(argument.strip().rstrip("."))
        assert (row["id"], task.name, answer) == (fact["id"], fact["task"], fact["answer"])
        assert fact["right"] == (row["completion"] == answer)
        assert fact["right"] == (fact["noise"] in ("", "near_duplicate"))
        if fact["noise"] == "systematic":
            assert row["completion"] == task.slant(argument.strip())
    assert world.right() == {fact["id"]: fact["right"] for fact in rows(world.truth)}


def test_files_hold_their_own_split_and_share_nothing(world: World) -> None:
    keys = {}
    for split in ("pool", "trusted", "test"):
        prompts = [row["prompt"] for row in rows(getattr(world, split))]
        assert {split_of(prompt) for prompt in prompts} == {split}
        keys[split] = {split_key(prompt) for prompt in prompts}
    assert not keys["pool"] & keys["trusted"]
    assert not keys["pool"] & keys["test"]
    assert not keys["trusted"] & keys["test"]


def test_trusted_and_test_rows_are_all_right(world: World) -> None:
    for row in rows(world.trusted) + rows(world.test):
        name, argument = row["prompt"].split(": ")
        assert row["completion"] == TASKS[name].right(argument)


def test_a_clean_pool_is_clean_and_rates_may_be_given(tmp_path: Path) -> None:
    assert CLEAN == {}
    assert all(small(tmp_path / "clean", dirty="clean").right().values())
    half = small(tmp_path / "half", dirty={"template_spam": 0.5}, pool_rows=100)
    assert sum(half.right().values()) == 50


@pytest.mark.parametrize(
    ("dirty", "message"),
    [
        ("dirtty", "did you mean 'dirty'"),
        ({"truncatd": 0.1}, "did you mean 'truncated'"),
        ({"truncated": 0.7, "systematic": 0.4}, "sum to at most 1"),
        ({"truncated": -0.1}, "in \\[0, 1\\]"),
        ({"truncated": 1.0}, "some clean rows"),
    ],
)
def test_impossible_noise_is_refused_in_words(tmp_path: Path, dirty: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small(tmp_path, dirty=dirty)
