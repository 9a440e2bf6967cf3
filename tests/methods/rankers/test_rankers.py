"""Every ranker: finite scores only, ties by content, the same set whatever the row order."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.methods.rankers import (
    RANKERS,
    Gate,
    LengthMatched,
    Middle,
    Random,
    Ranker,
    Top,
    tie_rank,
)
from pilotfish.methods.rankers.length_matched import length_bins
from pilotfish.methods.rankers.random import draws

VALUES = st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, 2.0, np.inf, -np.inf, np.nan])
SCORES = st.lists(VALUES, max_size=25)


def names(n: int) -> np.ndarray:
    return np.array([f"row-{i}" for i in range(n)], dtype=object)


def tie_of(n: int) -> np.ndarray:
    """A tie order that is not the row order."""
    return tie_rank([f"{i * 7 % 11:02d}" for i in range(n)], names(n))


def rankers(n: int) -> dict[str, Ranker]:
    """One of each, for a pool of n rows."""
    source = np.array([f"s{i % 2}" for i in range(n)], dtype=object)
    return {
        "top": Top("high"),
        "low": Top("low"),
        "gated": Top("high", Gate(below=1.0)),
        "middle": Middle(),
        "random": Random(names(n), seed=3),
        "length_matched": LengthMatched(np.arange(n // 3), source, np.arange(n) % 4),
    }


def test_the_table_is_covered() -> None:
    assert {type(ranker) for ranker in rankers(9).values()} == set(RANKERS.values())


@pytest.mark.parametrize("name", rankers(9))
@given(scores=SCORES)
def test_only_finite_scores_are_ranked_each_once_and_the_rest_have_a_reason(
    name: str, scores: list[float]
) -> None:
    values, before = np.array(scores), np.array(scores)
    ranking = rankers(len(values))[name].rank(values, tie_of(len(values)))
    order = ranking.order.tolist()
    assert np.isfinite(values[order]).all() and len(set(order)) == len(order)
    assert sorted(order) == np.flatnonzero(ranking.reason == "").tolist()
    assert (ranking.reason[~np.isfinite(values)] == "unscorable").all()
    assert np.array_equal(values, before, equal_nan=True)


@pytest.mark.parametrize("name", ["top", "low", "gated", "middle", "random"])
@given(scores=SCORES, seed=st.integers(0, 99))
def test_permuting_the_pool_permutes_the_ranking(name: str, scores: list[float], seed: int) -> None:
    values, ids = np.array(scores), names(len(scores))
    shuffle = np.random.default_rng(seed).permutation(len(scores))
    tie = tie_of(len(scores))
    first = rankers(len(scores))[name]
    second = Random(ids[shuffle], seed=3) if name == "random" else first
    plain = ids[first.rank(values, tie).order]
    moved = ids[shuffle][second.rank(values[shuffle], tie[shuffle]).order]
    assert plain.tolist() == moved.tolist()


@given(scores=SCORES, high=st.booleans())
def test_top_agrees_with_a_full_sort(scores: list[float], high: bool) -> None:
    tie = tie_of(len(scores))
    finite = [i for i, value in enumerate(scores) if np.isfinite(value)]
    slow = sorted(finite, key=lambda i: (-scores[i] if high else scores[i], tie[i]))
    ranking = Top("high" if high else "low").rank(np.array(scores), tie)
    assert ranking.order.tolist() == slow


@given(scores=SCORES)
def test_middle_windows_are_centred_for_every_k(scores: list[float]) -> None:
    values, tie = np.array(scores), tie_of(len(scores))
    order = Middle().rank(values, tie).order
    sorted_rows = Top("high").rank(values, tie).order.tolist()
    for k in range(1, len(order) + 1):
        places = sorted(sorted_rows.index(i) for i in order[:k])
        assert places == list(range(places[0], places[0] + k))
        assert abs(places[0] - (len(order) - 1 - places[-1])) <= 1


def test_middle_by_hand() -> None:
    scores = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    assert Middle().rank(scores, np.arange(5)).order.tolist() == [4, 3, 2, 1, 0]


def test_the_gate_is_strict_unless_told_and_says_why() -> None:
    scores = np.array([0.9, 1.0, 1.1, np.nan, 0.2])
    strict = Top("high", Gate(below=1.0, above=0.2)).rank(scores, np.arange(5))
    assert strict.order.tolist() == [0]
    assert strict.reason.tolist() == [
        "", "over_ceiling", "over_ceiling", "unscorable", "under_floor",
    ]  # fmt: skip
    loose = Top("low", Gate(below=1.0, above=0.2, strict=False)).rank(scores, np.arange(5))
    assert loose.order.tolist() == [4, 0, 1]


def test_ties_go_by_content_then_id_not_by_position() -> None:
    digest, ids = ["b", "a", "a", "c"], ["1", "9", "2", "0"]
    assert tie_rank(digest, ids).tolist() == [2, 1, 0, 3]
    assert Top().rank(np.ones(4), tie_rank(digest, ids)).order.tolist() == [2, 1, 0, 3]


def test_draws_are_a_function_of_seed_and_id_alone() -> None:
    ids = names(2000)
    one = draws(ids, 0)
    assert np.array_equal(one[::-1], draws(ids[::-1], 0))
    assert len(set(one)) == 2000 and one.min() >= 0 and one.max() < 1
    assert abs(one.mean() - 0.5) < 0.03 and abs(np.corrcoef(one, draws(ids, 1))[0, 1]) < 0.1
    assert draws(["\ud800", "x"], -5).shape == (2,) and draws([], 0).shape == (0,)


def matched(
    chosen: list[int], source: list[str], bins: list[int], scores: np.ndarray | None = None
) -> tuple[list[int], dict[str, int]]:
    n = len(source)
    values = draws(names(n), 0) if scores is None else scores
    ranker = LengthMatched(np.array(chosen), np.array(source, dtype=object), np.array(bins))
    ranking = ranker.rank(values, np.arange(n))
    assert sorted(ranking.order.tolist()) == np.flatnonzero(ranking.reason == "").tolist()
    return ranking.order.tolist(), dict(ranking.notes)


@given(st.integers(0, 999))
def test_length_matched_has_the_selections_histogram_and_is_disjoint(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = rng.choice(["a", "b", "c"], 300).astype(object)
    bins = length_bins(rng.geometric(0.05, 300))
    # At most a third of every stratum is selected, so that each can give as many again.
    strata = {key: np.flatnonzero((source == key[0]) & (bins == key[1]))
              for key in {*zip(source, bins.tolist(), strict=True)}}  # fmt: skip
    chosen = [int(i) for rows in strata.values() for i in rows[: len(rows) // 3]]
    picked, notes = matched(chosen, source.tolist(), bins.tolist())
    assert notes == {"borrowed": 0, "overlapping": 0}
    assert not set(picked) & set(chosen)
    assert Counter((source[i], bins[i]) for i in picked) == Counter(
        (source[i], bins[i]) for i in chosen
    )


def test_a_bin_that_runs_dry_borrows_from_the_nearest_of_its_source() -> None:
    source = ["a", "a", "a", "a", "b"]
    picked, notes = matched([0, 1], source, [5, 5, 4, 1, 5])
    assert sorted(picked) == [2, 3] and notes == {"borrowed": 2, "overlapping": 0}
    picked, notes = matched([0], source, [5, 1, 4, 1, 5])
    assert picked == [2] and notes == {"borrowed": 1, "overlapping": 0}


def test_borrowing_never_robs_a_bin_that_needs_its_own_rows() -> None:
    # bin 1 is empty but for the selection; bin 2 has just the one row that bin 2 needs.
    picked, notes = matched([0, 1], ["a"] * 4, [1, 2, 2, 9])
    assert sorted(picked) == [2, 3] and notes["borrowed"] == 1


def test_other_sources_come_before_rows_of_the_selection() -> None:
    picked, notes = matched([0], ["a", "b", "b"], [3, 9, 4])
    assert picked == [2] and notes == {"borrowed": 1, "overlapping": 0}
    picked, notes = matched([0, 1], ["a", "a", "b"], [3, 3, 3])
    assert len(picked) == 2 and 2 in picked and notes == {"borrowed": 1, "overlapping": 1}


def test_length_matched_is_the_same_set_whatever_the_row_order() -> None:
    rng = np.random.default_rng(1)
    ids, bins = names(200), length_bins(rng.geometric(0.1, 200))
    source = rng.choice(["a", "b"], 200).astype(object)
    chosen, values, tie = np.argsort(-bins)[:70], draws(ids, 0), tie_of(200)
    plain = ids[LengthMatched(chosen, source, bins).rank(values, tie).order]
    shuffle = rng.permutation(200)
    where = np.argsort(shuffle)[chosen]
    moved = LengthMatched(where, source[shuffle], bins[shuffle]).rank(values[shuffle], tie[shuffle])
    assert plain.tolist() == ids[shuffle][moved.order].tolist() and len(plain) == 70


def test_length_bins_are_about_equal_and_ignore_order() -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, 400)
    bins = length_bins(lengths)
    assert np.bincount(bins).tolist() and len(np.bincount(bins)) == 20
    assert np.bincount(bins).max() <= 2 * np.bincount(bins).min()
    assert np.array_equal(length_bins(lengths[::-1])[::-1], bins)
    assert (np.diff(bins[np.argsort(lengths)]) >= 0).all()
    assert length_bins(np.full(100, 7)).tolist() == [0] * 100
    assert length_bins(np.array([3, 9])).tolist() == [0, 0]
