"""The best of several: chosen on one half, judged on the other, whatever the order."""

import numpy as np
import pytest

from pilotfish.stats import best_of, difference, halves

IDS = [f"item-{at}" for at in range(40)]
SIDE = halves(IDS)


def made(first, second, seeds=2):
    """An arm whose choosing half is right in the share `first`, the other in `second`."""
    row = np.zeros(40)
    for side, share in ((SIDE, first), (~SIDE, second)):
        row[np.flatnonzero(side)[: round(share * side.sum())]] = 1.0
    return np.tile(row, (seeds, 1))


METHOD_TEXTS = {"lucky": made(1.0, 0.0), "steady": made(0.5, 0.5)}
RANDOM = made(0.25, 0.25)


def test_it_is_judged_on_items_that_did_not_choose_it():
    found = best_of(METHOD_TEXTS, RANDOM, IDS)
    assert found.name == "lucky" and found.found.value < 0
    assert found.found == difference(METHOD_TEXTS["lucky"][:, ~SIDE], RANDOM[:, ~SIDE])
    assert (found.chosen_on, found.judged_on) == (SIDE.sum(), (~SIDE).sum())


def test_of_a_loss_the_lowest_is_best():
    assert best_of(METHOD_TEXTS, RANDOM, IDS, higher_is_better=False).name == "steady"


def test_order_of_items_is_free():
    order = np.random.default_rng(0).permutation(40)
    moved = {name: arm[:, order] for name, arm in METHOD_TEXTS.items()}
    found = best_of(moved, RANDOM[:, order], [IDS[at] for at in order])
    assert found.name == "lucky"
    assert found.found.value == pytest.approx(best_of(METHOD_TEXTS, RANDOM, IDS).found.value)


def test_an_item_that_one_method_lacks_chooses_nobody():
    holed = METHOD_TEXTS | {"steady": METHOD_TEXTS["steady"].copy()}
    holed["steady"][0, np.flatnonzero(SIDE)[-1]] = np.nan  # one that steady has wrong
    assert best_of(holed, RANDOM, IDS).chosen_on == SIDE.sum() - 1


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="0 methods"):
        best_of({}, RANDOM, IDS)
    with pytest.raises(ValueError, match=r"\[seeds, 40\]"):
        best_of({"short": np.zeros((2, 39))}, RANDOM, IDS)
    with pytest.raises(ValueError, match="no item"):
        best_of({"none": np.full((2, 40), np.nan)}, RANDOM, IDS)
