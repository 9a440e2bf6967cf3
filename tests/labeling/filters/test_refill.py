"""The second round: who comes back, who does not, and why."""

import dataclasses

import numpy as np
import pytest

from pilotfish.errors import UsageError
from pilotfish.labeling.filters import Candidates, Refill
from pilotfish.labeling.filters.refill import DISAGREES, EASY, OVER, SILENT, UNKNOWN, UNSURE
from tests.labeling.filters.tables import labels, words


def round_two(how=None, **changes):
    """Eight rows: 0-3 kept before; 4-7 dropped, ever harder."""
    first = labels("aaaabbbb")
    second = dataclasses.replace(first, **changes)
    kept = np.arange(8) < 4
    difficulty = np.arange(8) / 10
    return (how or Refill(quota=1.0)).admit(Candidates(first), kept, second, difficulty)


def test_rows_that_the_second_model_confirms_come_back():
    found = round_two(label=words("aaaabbbx"))
    assert found.kept.tolist() == [True] * 7 + [False] and found.reason[7] == DISAGREES


def test_first_round_is_never_undone():
    found = round_two(label=words("xxxxxxxx"))
    assert found.kept.tolist() == [True] * 4 + [False] * 4


def test_quota_lets_the_hardest_in():
    found = round_two(Refill(quota=0.5))  # of 4 kept: 2
    assert np.flatnonzero(found.kept).tolist() == [0, 1, 2, 3, 6, 7]
    assert found.reason[4] == found.reason[5] == OVER


def test_floor_keeps_easy_rows_out():
    found = round_two(Refill(quota=1.0, floor=0.8))  # the 80% quantile of 0 .. 0.7 is 0.56
    assert np.flatnonzero(found.kept).tolist() == [0, 1, 2, 3, 6, 7] and found.reason[4] == EASY


def test_silent_and_unsure_second_models_confirm_nothing():
    status, confidence = words(["ok"] * 8), np.full(8, 0.9)
    status[7], confidence[6], confidence[5] = "failed", 0.2, np.nan
    found = round_two(Refill(quota=1.0, above=0.5), status=status, confidence=confidence)
    assert found.reason[5:].tolist() == [UNSURE, UNSURE, SILENT] and found.kept[4]


def test_unlabelled_rows_and_unknown_difficulty_stay_out():
    status = words(["ok"] * 7 + ["failed"])
    first = dataclasses.replace(labels("aaaabbbb"), status=status)
    difficulty = np.r_[np.arange(6) / 10, np.nan, 0.9]
    kept = np.arange(8) < 4
    found = Refill(quota=1.0).admit(Candidates(first), kept, labels("aaaabbbb"), difficulty)
    assert found.reason[6:].tolist() == [UNKNOWN, "not labelled"]
    assert np.isnan(found.score[6:]).all() and found.kept[4:6].all()


def test_order_of_rows_changes_nothing_where_difficulties_tie():
    rng = np.random.default_rng(0)
    first = labels("ab" * 20)
    kept, difficulty = np.arange(40) < 20, np.full(40, 0.5)
    plain = Refill(quota=0.3).admit(Candidates(first), kept, first, difficulty)
    order = rng.permutation(40)
    mixed = Refill(quota=0.3).admit(
        Candidates(first.take(order)), kept[order], first.take(order), difficulty[order]
    )
    assert plain.kept.sum() == 26
    np.testing.assert_array_equal(mixed.kept, plain.kept[order])
    np.testing.assert_array_equal(mixed.reason, plain.reason[order])


def test_other_rows_are_refused():
    first = labels("ab")
    with pytest.raises(ValueError, match="other rows"):
        Refill().admit(Candidates(first), np.ones(2, bool), first.take([1, 0]), np.zeros(2))


@pytest.mark.parametrize("knobs", [{"quota": 0.0}, {"floor": 1.0}, {"above": -0.1}])
def test_knobs_out_of_range_are_refused(knobs):
    with pytest.raises(UsageError, match="refill"):
        Refill(**knobs)
