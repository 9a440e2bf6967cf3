"""Noise: each kind does what its name says, and only a near-duplicate stays right."""

from itertools import islice
from random import Random

import pytest

from pilotfish.demo.noise import CLEAN, DIRTY, NOISES
from pilotfish.demo.splits import items
from pilotfish.demo.tasks import TASKS, Item

REVERSE = Item(TASKS["reverse"], "tabmo")  # ombat
ADD = Item(TASKS["add"], "47 35")  # 82
COUNT = Item(TASKS["count"], "a banba")  # 2


def spoilt(name: str, item: Item = REVERSE, donor: Item = ADD, seed: int = 0) -> tuple[str, str]:
    row = NOISES[name](item, donor, Random(seed))
    assert row is not None
    return row


def test_by_hand() -> None:
    assert spoilt("systematic") == ("reverse: tabmo", "abmot")
    assert spoilt("shuffled_pair") == ("reverse: tabmo", "82")
    assert spoilt("template_spam") == ("reverse: tabmo", "Sure, done!")
    answers = {spoilt("truncated", seed=seed)[1] for seed in range(60)}
    assert answers == {"o", "om", "omb", "omba"}


@pytest.mark.parametrize("seed", range(20))
def test_a_slip_changes_one_character_into_one_of_its_kind(seed: int) -> None:
    for item in (REVERSE, ADD, Item(TASKS["upper"], "tab")):
        _, answer = spoilt("wrong_answer", item, seed=seed)
        changed = [new for old, new in zip(item.answer, answer, strict=True) if old != new]
        assert len(changed) == 1
        assert changed[0].isdigit() == item.answer.isdigit()
        assert changed[0].isupper() == item.answer.isupper()


def test_off_task_is_a_right_answer_to_another_task() -> None:
    names = ("sort", "upper", "double", "vowels", "ends", "next")
    rows = [NOISES["off_task"](REVERSE, ADD, Random(seed)) for seed in range(200)]
    assert {row for row in rows if row} == {
        ("reverse: tabmo", TASKS[name].right("tabmo")) for name in names
    }


def test_a_near_duplicate_repeats_the_donor_and_its_right_answer() -> None:
    forms = {spoilt("near_duplicate", seed=seed) for seed in range(40)}
    assert {answer for _, answer in forms} == {"82"}
    assert {prompt for prompt, _ in forms} == {
        "Add: 47 35",
        "add : 47 35",
        "add:  47 35",
        "add: 47 35.",
    }


def test_what_cannot_be_spoilt_so_is_given_back() -> None:
    assert NOISES["truncated"](COUNT, ADD, Random(0)) is None
    assert NOISES["shuffled_pair"](REVERSE, REVERSE, Random(0)) is None
    assert all(NOISES["off_task"](ADD, REVERSE, Random(seed)) is None for seed in range(9))


@pytest.mark.parametrize("name", sorted(set(NOISES) - {"near_duplicate"}))
def test_no_spoilt_row_is_right_by_accident(name: str) -> None:
    rng = Random(name)
    draws = items("pool", rng)
    for item, donor in islice(zip(draws, draws, strict=False), 400):
        row = NOISES[name](item, donor, rng)
        assert row is None or (row[0] == item.prompt and row[1] not in ("", item.answer))


def test_the_stated_rates() -> None:
    assert DIRTY.keys() == NOISES.keys()
    assert sum(DIRTY.values()) == pytest.approx(0.60)
    assert sum(CLEAN.values()) == 0
