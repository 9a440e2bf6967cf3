"""Cuts by merged histograms equal a full sort, for any sharding (promise R15)."""

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.budget import parse_budget, take
from pilotfish.methods.rankers import tie_rank
from pilotfish.selection.histogram import Cut, Histogram, bins_of, keys_of

TINY = float(np.finfo(np.float64).smallest_subnormal)
SPECIAL = st.sampled_from(
    [0.0, -0.0, 1.0, 1.0, np.nan, np.inf, -np.inf, TINY, -TINY, 1e308, -1e308]
)
NEAR = st.integers(0, 40).map(lambda i: 1.0 + i * 2.0**-52)  # all in one bin
SCORE = st.one_of(SPECIAL, NEAR, st.floats(width=64))
ROW = st.tuples(SCORE, st.integers(0, 9), st.sampled_from(["aa", "ab", "b0"]))
ROWS = st.lists(ROW, max_size=40)
DIRECTION = st.sampled_from(["high", "low"])


class Pool:
    """Rows and a sharding of them."""

    def __init__(self, rows: list, seed: int) -> None:
        self.scores = np.array([row[0] for row in rows], dtype=np.float64)
        self.tokens = np.array([row[1] for row in rows], dtype=np.int64)
        self.digest = [row[2] for row in rows]
        self.ids = [f"{(i * 7) % 41:02d}" for i in range(len(rows))]
        rng = np.random.default_rng(seed)
        home = rng.integers(0, 4, len(rows))
        self.shards = [np.flatnonzero(home == shard) for shard in rng.permutation(4)]

    def histogram(self, direction: str) -> Histogram:
        parts = [Histogram.of(self.scores[s], direction, self.tokens[s]) for s in self.shards]
        return reduce(add, parts)

    def sorted(self, direction: str, rows: np.ndarray) -> list[int]:
        """Rows best first by (score, digest, id), slowly; nan left out."""
        sign = 1 if direction == "low" else -1
        known = [int(i) for i in rows if not np.isnan(self.scores[i])]
        return sorted(known, key=lambda i: (sign * self.scores[i], self.digest[i], self.ids[i]))

    def second_pass(self, cut: Cut) -> list[int]:
        """The rows that may be before the cut, shard by shard, then sorted."""
        found = [s[cut.may_hold(self.scores[s])] for s in self.shards]
        return self.sorted(cut.direction, np.concatenate(found))


@given(rows=ROWS, k=st.integers(0, 50), direction=DIRECTION, seed=st.integers(0, 99))
@settings(max_examples=400)
def test_top_k_equals_the_full_sort(rows: list, k: int, direction: str, seed: int) -> None:
    pool = Pool(rows, seed)
    full = pool.sorted(direction, np.arange(len(rows)))
    some = pool.second_pass(pool.histogram(direction).top_k(k))
    assert some[:k] == full[:k] and some == full[: len(some)]


@given(rows=ROWS, budget=st.integers(1, 200), direction=DIRECTION, seed=st.integers(0, 99))
@settings(max_examples=400)
def test_token_budgets_equal_the_full_sort(
    rows: list, budget: int, direction: str, seed: int
) -> None:
    pool = Pool(rows, seed)
    full = pool.sorted(direction, np.arange(len(rows)))
    some = pool.second_pass(pool.histogram(direction).token_budget(budget))
    spent = np.cumsum(pool.tokens[full]) if full else np.zeros(0)
    fit = int(np.searchsorted(spent, budget, side="right"))
    crossing = int(np.searchsorted(spent, budget, side="left")) + 1
    assert some[:fit] == full[:fit] and some[:crossing] == full[:crossing]
    if full and fit and spent[-1] >= budget:
        bought = take(np.array(some), parse_budget(f"{budget}tokens"), 99, tokens=pool.tokens)
        assert bought.tolist() == full[:fit]


@given(rows=ROWS, share=st.integers(0, 100), direction=DIRECTION, seed=st.integers(0, 99))
def test_quantiles_equal_the_full_sort(rows: list, share: int, direction: str, seed: int) -> None:
    pool = Pool(rows, seed)
    full = pool.sorted(direction, np.arange(len(rows)))
    k = -(-share * len(full) // 100)
    some = pool.second_pass(pool.histogram(direction).quantile(share / 100))
    assert some[:k] == full[:k]


@given(rows=ROWS, quota=st.lists(st.integers(0, 12), min_size=3, max_size=3),
       direction=DIRECTION, seed=st.integers(0, 99))  # fmt: skip
def test_a_quota_per_source_is_a_cut_per_source(
    rows: list, quota: list[int], direction: str, seed: int
) -> None:
    pool = Pool(rows, seed)
    source = np.array([i % 3 for i in range(len(rows))])
    for each, k in enumerate(quota):
        full = pool.sorted(direction, np.flatnonzero(source == each))
        parts = [s[source[s] == each] for s in pool.shards]
        cut = sum(
            (Histogram.of(pool.scores[part], direction) for part in parts),
            start=Histogram.of(np.empty(0), direction),
        ).top_k(k)
        found = np.concatenate([part[cut.may_hold(pool.scores[part])] for part in parts])
        assert pool.sorted(direction, found)[:k] == full[:k]


@given(rows=ROWS, seed=st.integers(0, 99), direction=DIRECTION)
def test_the_sum_is_the_histogram_of_the_whole(rows: list, seed: int, direction: str) -> None:
    pool = Pool(rows, seed)
    whole = Histogram.of(pool.scores, direction, pool.tokens)
    parts = pool.histogram(direction)
    for name in ("bins", "rows", "tokens"):
        assert getattr(whole, name).tolist() == getattr(parts, name).tolist()
    known = ~np.isnan(pool.scores)
    assert len(whole) == known.sum() and whole.tokens.sum() == pool.tokens[known].sum()


@given(st.lists(st.floats(allow_nan=False, width=64), max_size=30))
def test_keys_are_ordered_like_the_numbers(values: list[float]) -> None:
    scores = np.array([*values, 0.0, -0.0, TINY, -TINY, np.inf, -np.inf])
    for direction, sign in (("low", 1), ("high", -1)):
        keys = keys_of(scores, direction)  # type: ignore[arg-type]
        for i in range(len(scores)):
            assert ((keys < keys[i]) == (sign * scores < sign * scores[i])).all()
            assert ((keys == keys[i]) == (scores == scores[i])).all()


def test_by_hand() -> None:
    counted = Histogram.of(
        np.array([3.0, np.nan, 1.0, 3.0, 2.0]), "high", np.array([5, 9, 1, 5, 2])
    )
    assert counted.rows.tolist() == [2, 1, 1] and counted.tokens.tolist() == [10, 2, 1]
    scores = np.array([3.0, 2.0, 1.0, np.nan])
    assert counted.top_k(0).may_hold(scores).tolist() == [False] * 4
    assert counted.top_k(2).may_hold(scores).tolist() == [True, False, False, False]
    assert counted.top_k(3).may_hold(scores).tolist() == [True, True, False, False]
    assert counted.top_k(99).may_hold(scores).tolist() == [True, True, True, False]
    assert counted.token_budget(9).may_hold(scores).tolist() == [True, False, False, False]
    assert counted.token_budget(11).may_hold(scores).tolist() == [True, True, False, False]
    empty = Histogram.of(np.empty(0), "low")
    assert len(empty) == 0 and not empty.top_k(3).may_hold(np.array([1.0])).any()


def test_quantiles_are_numpys_inverted_cdf() -> None:
    scores = np.random.default_rng(0).normal(size=40)
    for share in (0.025, 0.25, 0.5, 1.0):
        inside = Histogram.of(scores, "low").quantile(share).may_hold(scores)
        value = np.quantile(scores, share, method="inverted_cdf")
        assert (scores <= value)[~inside].sum() == 0 and value == np.sort(scores[inside])[
            round(40 * share) - 1
        ]
    assert not Histogram.of(scores, "low").quantile(0).may_hold(scores).any()


def test_what_has_no_order_is_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        keys_of(np.array([1.0, np.nan]), "high")
    with pytest.raises(ValueError, match="cannot add"):
        Histogram.of(np.ones(1), "high") + Histogram.of(np.ones(1), "low")
    with pytest.raises(ValueError, match="share"):
        Histogram.of(np.ones(1), "high").quantile(1.5)


def test_a_bin_is_narrow_enough_to_leave_most_rows_out() -> None:
    scores = np.random.default_rng(0).uniform(0.5, 1.0, 100_000)
    counted = Histogram.of(scores, "high")
    kept = counted.top_k(10_000).may_hold(scores).sum()
    assert 10_000 <= kept < 10_800
    assert len(np.unique(bins_of(scores, "high"))) == len(counted.bins) <= 257


CONTENT = st.sampled_from(["00", "0a", "a0", "ff"])


@given(st.lists(st.tuples(CONTENT, st.integers(0, 30)), unique_by=lambda pair: pair[1]))
def test_ties_in_bytes_and_in_hex_are_broken_alike(rows: list[tuple[str, int]]) -> None:
    digest = [part * 16 for part, _ in rows]
    ids = [f"row-{i}" for _, i in rows]
    slow = sorted(range(len(rows)), key=lambda i: (digest[i], ids[i]))
    packed = np.array([bytes.fromhex(each) for each in digest], dtype="S16")
    for form in (digest, packed):
        assert np.argsort(tie_rank(form, ids)).tolist() == slow
