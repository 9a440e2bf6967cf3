"""McNemar inside seed pairs, and the two p values of the verdict."""

import math

import pytest

from pilotfish import stats
from pilotfish.comparison.contrast import margin_of
from pilotfish.comparison.data import ComparisonData, matrices
from pilotfish.comparison.verdict import decide, seed_pairs
from tests.comparison.makers import arm, drawn

LENGTHS = {"length_matched": drawn(0.5, seed=9)}


def test_by_hand():
    # seed 0: three items right in the selection alone, one in random alone: 2 * (1 + 4) / 16
    results = {"selected": arm([1, 1, 1, 0, 1, 0]), "random": arm([0, 0, 0, 1, 1, 0])}
    (pair,) = seed_pairs(results, "selected", "random")
    assert pair == {"seed": 0, "only_selected": 3, "only_random": 1, "p": 10 / 16}
    (turned,) = seed_pairs(results, "random", "selected")
    assert (turned["only_selected"], turned["only_random"]) == (1, 3)
    assert turned["p"] == pair["p"]


def test_items_are_joined_by_id_and_only_shared_seeds_count():
    selected, random = drawn(0.7, seeds=3, seed=1), drawn(0.5, seeds=2, seed=2)
    shuffled = {seed: dict(reversed(items.items())) for seed, items in random.items()}
    found = seed_pairs({"selected": selected, "random": random}, "selected", "random")
    assert [pair["seed"] for pair in found] == [0, 1]
    assert seed_pairs({"selected": selected, "random": shuffled}, "selected", "random") == found


def test_what_could_not_be_judged_is_left_out():
    results = {"selected": arm([1, math.nan, 1]), "random": arm([0, 0, math.nan])}
    (pair,) = seed_pairs(results, "selected", "random")
    assert (pair["only_selected"], pair["only_random"]) == (1, 0)


def test_values_that_are_not_right_or_wrong_have_no_such_test():
    assert (
        seed_pairs({"selected": arm([0.5, 1]), "random": arm([1, 0])}, "selected", "random") == []
    )
    assert seed_pairs({"selected": drawn(0.5)}, "selected", "random") == []


def verdict(results, margin=None):
    margin = margin_of("exact_match", margin)
    data = ComparisonData({**LENGTHS, **results}, "exact_match", True, margin)
    return decide(data, evidence="full", trusted=False)


def test_the_verdict_has_the_interval_s_p_and_that_of_the_seeds_alone():
    results = {"selected": drawn(0.6, seed=1), "random": drawn(0.5, seed=2)}
    found = verdict(results)
    a, b = matrices(results, ["selected", "random"])
    assert found.p == stats.difference(a, b).p
    assert found.p_seeds == stats.seed_test(a, b).p
    assert found.p_seeds is not None and found.p is not None and found.p_seeds < found.p
    assert [pair["seed"] for pair in found.seed_pairs] == [0, 1, 2]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.51, 0.8])
def test_the_p_and_the_outcome_never_disagree(share):
    found = verdict({"selected": drawn(share, seed=1), "random": drawn(0.5, seed=2)}, margin=1e-6)
    assert found.p is not None
    assert (found.p < 0.05) == (found.outcome in ("better", "worse"))


def test_one_seed_has_pairs_and_no_p():
    found = verdict({"selected": drawn(0.8, seeds=1, seed=1), "random": drawn(0.5, seeds=1)})
    assert (found.outcome, found.p, found.p_seeds) == ("not_tested", None, None)
    assert len(found.seed_pairs) == 1


def test_a_missing_arm_has_neither():
    found = verdict({"random": drawn(0.5)})
    assert (found.p, found.p_seeds, found.seed_pairs) == (None, None, [])
