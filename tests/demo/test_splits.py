"""Splits: no argument is in two of them, in whatever near form."""

from itertools import islice
from random import Random

import pytest

from pilotfish.demo.noise import NOISES
from pilotfish.demo.pretrain import texts
from pilotfish.demo.splits import Split, distinct_items, items, split_key, split_of

SPLITS: tuple[Split, ...] = ("pretrain", "pool", "trusted", "test")


def keys(split: Split, rows: int) -> set[str]:
    return {split_key(item.prompt) for item in islice(items(split, Random(split)), rows)}


def test_no_word_or_number_pair_stands_in_two_splits() -> None:
    drawn = {split: keys(split, 3000) for split in SPLITS}
    for one in SPLITS:
        assert len(drawn[one]) > 1000
        for other in SPLITS:
            assert one == other or not drawn[one] & drawn[other], (one, other)


@pytest.mark.parametrize("seed", [0, 1])
def test_what_pretraining_reads_is_disjoint_from_every_other_split(seed: int) -> None:
    read = {split_key(text.partition("\n\n")[0]) for text in islice(texts(seed), 5000)}
    for split in ("pool", "trusted", "test"):
        assert not read & keys(split, 3000), split


@pytest.mark.parametrize(
    ("form", "same"),
    [
        ("Reverse: tabmo", "reverse: tabmo"),
        ("reverse :  TABMO.", "reverse: tabmo"),
        ("sort: tabmo", "reverse: tabmo"),
        ("count: b tabmo", "count: a tabmo"),
        ("add: 31 12", "add: 12 31"),
        ("max: 54 12 37", "max: 37 54 12"),
    ],
)
def test_near_forms_share_a_split(form: str, same: str) -> None:
    assert split_key(form) == split_key(same) != ""
    assert split_of(form) == split_of(same)


def test_every_near_duplicate_stays_in_its_split() -> None:
    draws = items("pool", Random(3))
    rng = Random(4)
    for item, donor in islice(zip(draws, draws, strict=False), 500):
        row = NOISES["near_duplicate"](item, donor, rng)
        assert row is not None and row[0] != donor.prompt
        assert split_of(row[0]) == "pool"


def test_shares_of_the_splits_are_those_of_the_table() -> None:
    rng = Random(5)
    found = [split_of(f"sort: {rng.getrandbits(64):x}") for _ in range(5000)]
    shares = {"pretrain": 0.60, "pool": 0.20, "trusted": 0.05, "test": 0.15}
    for split, share in shares.items():
        # four standard errors of a share of 5,000 draws are below .03
        assert abs(found.count(split) / len(found) - share) < 0.03


def test_distinct_items_never_ask_the_same_twice() -> None:
    drawn = list(islice(distinct_items("trusted", Random(6)), 400))
    assert len({(item.task.name, split_key(item.prompt)) for item in drawn}) == 400


def test_pretraining_shows_right_and_wrong_in_equal_parts_and_never_the_slant() -> None:
    from pilotfish.demo.tasks import TASKS

    right = habit = 0
    for text in islice(texts(0), 4000):
        prompt, answer = text.split("\n\n")
        name, argument = prompt.split(": ")
        task = TASKS[name]
        right += answer == task.right(argument)
        habit += answer == task.habit(argument)
        assert answer != task.slant(argument)
    assert right + habit == 4000
    assert abs(right - habit) < 4 * 4000**0.5  # four standard deviations of the difference
