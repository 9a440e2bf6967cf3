"""The laws every selector obeys, run over the whole table."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest

from pilotfish.budget import parse_budget, take
from pilotfish.errors import UsageError
from pilotfish.methods import METHODS, describe
from pilotfish.methods.rankers import tie_rank
from pilotfish.records import RowFeatures
from tests.methods.world import METHOD_TEXTS, planted, reordered, seen_of, selector_of

N = 200


def order_of(method: str, seen: RowFeatures) -> np.ndarray:
    """Pool indices of the eligible rows, best first."""
    selector = selector_of(method)
    content = [f"{int(id[-5:]) * 37 % 101:03d}" for id in seen.ids]
    return selector.ranker().rank(selector.score(seen), tie_rank(content, seen.ids)).order


def kept_ids(method: str, seen: RowFeatures, budget: str) -> list[str]:
    return seen.ids[take(order_of(method, seen), parse_budget(budget), len(seen))].tolist()


@pytest.mark.parametrize("method", METHOD_TEXTS)
def test_the_budget_is_met_by_distinct_rows_of_the_pool(method: str) -> None:
    seen = seen_of(N)
    for budget, k in (("1row", 1), ("10%", 20), ("29%", 58)):
        ids = kept_ids(method, seen, budget)
        assert len(ids) == len(set(ids)) == k and set(ids) <= set(seen.ids)


@pytest.mark.parametrize("method", METHOD_TEXTS)
def test_a_smaller_budget_keeps_a_subset(method: str) -> None:
    seen = seen_of(N)
    picks = [set(kept_ids(method, seen, f"{k}rows")) for k in (1, 7, 8, 40, 90)]
    assert all(small < large for small, large in itertools.pairwise(picks))


@pytest.mark.parametrize("method", METHOD_TEXTS)
def test_the_order_of_the_pool_changes_nothing(method: str) -> None:
    seen = seen_of(N)
    shuffled = reordered(seen, np.random.default_rng(5).permutation(N))
    assert kept_ids(method, seen, "25%") == kept_ids(method, shuffled, "25%")


@pytest.mark.parametrize("method", METHOD_TEXTS)
def test_a_second_call_gives_the_same_and_the_pool_stays_as_it_was(method: str) -> None:
    seen = seen_of(N)
    before = copy.deepcopy(seen)
    assert np.array_equal(
        selector_of(method).score(seen), selector_of(method).score(seen), equal_nan=True
    )
    assert kept_ids(method, seen, "25%") == kept_ids(method, seen, "25%")
    assert np.array_equal(seen.n_response_tokens, before.n_response_tokens)
    for need, one in seen.measured.items():
        assert np.array_equal(one.total, before.measured[need].total)


@pytest.mark.parametrize("method", METHOD_TEXTS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_signal_that_is_no_number_is_never_picked(method: str, value: float) -> None:
    selector = selector_of(method)
    for need in selector.needs:
        clean = seen_of(N)
        row = int(order_of(method, clean)[0])  # the row it likes best
        seen = planted(clean, need, row, value)
        scores = selector.score(seen)
        assert np.isnan(scores[row]) and row not in order_of(method, seen)
        assert selector.reasons(seen, scores)[row] == "nonfinite"
        assert np.flatnonzero(selector.reasons(seen, scores) != "").tolist() == [row]


@pytest.mark.parametrize("method", METHOD_TEXTS)
def test_the_reason_of_a_measurement_is_the_reason_of_the_row(method: str) -> None:
    selector = selector_of(method)
    for need in selector.needs:
        seen = planted(seen_of(N), need, 3, np.nan, "prompt_over_limit")
        scores = selector.score(seen)
        assert np.isnan(scores[3]) and selector.reasons(seen, scores)[3] == "prompt_over_limit"


@pytest.mark.parametrize("method", METHOD_TEXTS)
def test_a_finite_total_beside_a_reason_is_not_used(method: str) -> None:
    selector = selector_of(method)
    for need in selector.needs:
        seen = planted(seen_of(N), need, 3, 12.0, "model_error")
        assert np.isnan(selector.score(seen)[3])


@pytest.mark.parametrize("method", METHOD_TEXTS)
def test_scores_are_float64_nan_exactly_where_there_is_a_reason(method: str) -> None:
    selector, seen = selector_of(method), seen_of(N)
    seen = replace(seen, n_response_tokens=np.where(np.arange(N) % 9, 5, 0))
    scores = selector.score(seen)
    reasons = selector.reasons(seen, scores)
    assert scores.shape == reasons.shape == (N,) and scores.dtype == np.float64
    assert np.array_equal(np.isnan(scores), reasons != "") and not np.isinf(scores).any()


@pytest.mark.parametrize("method", METHOD_TEXTS)
def test_one_row_does_not_move_the_score_of_another(method: str) -> None:
    seen = seen_of(N)
    half = reordered(seen, np.arange(0, N, 2))
    scores = selector_of(method).score(seen)
    assert np.array_equal(selector_of(method).score(half), scores[::2])


@pytest.mark.parametrize("method", METHOD_TEXTS)
def test_an_empty_pool_scores_and_ranks_to_nothing(method: str) -> None:
    seen = reordered(seen_of(4), np.array([], dtype=np.int64))
    scores = selector_of(method).score(seen)
    assert scores.shape == (0,) and selector_of(method).reasons(seen, scores).shape == (0,)
    with pytest.raises(UsageError, match="of 0 pool rows 0"):
        take(order_of(method, seen), parse_budget("1row"), 0)


def test_every_method_is_described() -> None:
    told = describe()
    assert [each["name"] for each in told] == sorted(METHODS)
    for each in told:
        assert each["about"].endswith(".") and each["formula"] and "arXiv:" in each["cite"]
    assert describe("random")[0]["knobs"] == {"seed": 0}
    assert describe("perplexity")[0]["direction"] is None
    with pytest.raises(UsageError, match="did you mean 'perplexity'"):
        describe("perplexty")
