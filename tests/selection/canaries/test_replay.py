"""Picks made again with rows added, against picks made the slow way; lift and drift by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.budget import parse_budget, take
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Gate, Middle, Ranker, Top
from pilotfish.selection.canaries.replay import (
    ExtendedPool,
    Outcome,
    drift,
    lift,
    replay_each,
    replay_together,
)

RANKERS = (Top("high"), Top("low"), Top("high", Gate(below=0.8)), Middle(), Middle(Gate(below=0.8)))


def slow(field: ExtendedPool, ranker: Ranker, budget: str, i: int) -> bool:
    """Whether the added row i is kept, by a pool that holds it."""
    n = field.n
    scores, tie = np.append(field.scores[:n], field.scores[n + i]), field.tie
    tokens = None if field.tokens is None else np.append(field.tokens[:n], field.tokens[n + i])
    order = ranker.rank(scores, np.append(tie[:n], tie[n + i])).order
    try:
        kept = take(order, parse_budget(budget), n, tokens=tokens, allow_short=True)
    except UsageError:
        return False
    return n in kept.tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(RANKERS),
       st.sampled_from(["3rows", "25%", "80tokens", "100%"]))  # fmt: skip
def test_alone_is_what_a_pool_with_that_row_keeps(seed: int, ranker: Ranker, budget: str) -> None:
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(12, 40)), int(rng.integers(1, 9))
    scores = np.where(rng.random(n + m) < 0.6, rng.choice([0.1, 0.5, 0.9, np.nan], n + m),
                      rng.random(n + m))  # fmt: skip
    field = ExtendedPool(scores, rng.permutation(n + m), rng.integers(1, 30, n + m), n)
    fate = replay_each(field, ranker, parse_budget(budget))
    assert fate.kept.tolist() == [slow(field, ranker, budget, i) for i in range(m)]
    by_hand = [replay_together(field.only([i]), ranker, parse_budget(budget)) for i in range(m)]
    assert fate.place.tolist() == [each.place[0] for each in by_hand]


def test_rows_added_together_take_each_others_places() -> None:
    field = ExtendedPool(np.array([5.0, 4, 3, 2, 9, 8, 7]), np.arange(7), None, 4)
    apart, at_once = (
        how(field, Top("high"), parse_budget("2rows")) for how in (replay_each, replay_together)
    )
    assert apart.kept.tolist() == [True] * 3
    assert at_once.kept.tolist() == [True, True, False]
    assert apart.place.tolist() == at_once.place.tolist() == [0.0] * 3


def test_what_may_not_be_picked_comes_last() -> None:
    field = ExtendedPool(np.array([0.5, 0.4, np.nan, 1.2]), np.arange(4), None, 2)
    fate = replay_each(field, Top("high", Gate(below=1.0)), parse_budget("2rows"))
    assert fate.kept.tolist() == [False, False]
    assert fate.place.tolist() == [1.0, 1.0]


def test_a_row_longer_than_the_budget_is_not_kept() -> None:
    field = ExtendedPool(np.array([0.5, 0.4, 0.9]), np.arange(3), np.array([5, 5, 50]), 2)
    assert not replay_each(field, Top("high"), parse_budget("10tokens")).kept[0]
    assert not replay_together(field, Top("high"), parse_budget("10tokens")).kept[0]


def test_lift_by_hand() -> None:
    found = lift(np.zeros(20, dtype=bool), 0.1)
    assert (found["kept"], found["of"], found["lift"], found["low"]) == (0, 20, 0.0, 0.0)
    assert found["high"] == pytest.approx((1 - 0.025 ** (1 / 20)) / 0.1)  # the rule of Clopper
    assert lift(np.array([True, False]), 0.25)["lift"] == 2.0


def test_drift_by_hand() -> None:
    places = {"as": np.array([0.5, 0.5, 0.5]), "so": np.array([0.3, 0.4, 0.2])}
    found = drift(places, "as", "so")
    assert found["mean"] == pytest.approx(0.2)  # up: picked sooner
    half = 4.302653 * 0.1 / 3**0.5
    assert (found["low"], found["high"]) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-6)
    one = {name: place[:1] for name, place in places.items()}
    assert drift(one, "as", "so")["low"] is None


def test_lifts_of_rows_like_any_other_cover_one() -> None:
    """95% intervals of exchangeable rows: at least 95 of 100 hold 1."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        scores = rng.random(440)
        fate: Outcome = replay_each(ExtendedPool(scores, np.arange(440), None, 400), Top("high"),
                           parse_budget("25%"))  # fmt: skip
        found = lift(fate.kept, 0.25)
        covered += found["low"] <= 1 <= found["high"]
    assert covered >= 190
