"""Formulas on numbers worked out by hand, and what each method promises beyond the common laws."""

import math

import numpy as np
import pytest

from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Middle, Top, tie_rank
from pilotfish.records import Measured, Need, RowFeatures
from tests.methods.world import seen_of, selector_of


def seen(needs: tuple[Need, ...], *losses: list[tuple[float, int]]) -> RowFeatures:
    """(sum of nats, tokens) of each row, per need."""
    n = len(losses[0]) if losses else 3
    measured = {
        need: Measured(
            np.array([total for total, _ in rows]),
            np.array([count for _, count in rows]),
            np.full(n, "", dtype=object),
        )
        for need, rows in zip(needs, losses, strict=True)
    }
    ids = np.array([f"r{i}" for i in range(n)], dtype=object)
    return RowFeatures(ids, np.ones(n, dtype=np.int64), np.ones(n, dtype=np.int64), measured)


@pytest.mark.parametrize("method", ["ifd", "superfiltering"])
def test_ifd_is_the_ratio_of_perplexities_each_over_its_own_tokens(method: str) -> None:
    selector = selector_of(method)
    conditional = [(4.0, 4), (6.0, 3), (3.0, 3)]
    alone = [(6.0, 3), (3.0, 2), (4.0, 4)]
    scores = selector.score(seen(selector.needs, conditional, alone))
    assert scores == pytest.approx([math.exp(1 - 2), math.exp(2 - 1.5), 1.0], rel=1e-12)


@pytest.mark.parametrize("method", ["ifd", "superfiltering"])
def test_exactly_one_is_gated_out_and_just_below_is_kept_first(method: str) -> None:
    scores = np.array([1.0, np.nextafter(1.0, 0.0), 0.5, 1.5])
    ranking = selector_of(method).ranker().rank(scores, np.arange(4))
    assert ranking.order.tolist() == [1, 2]
    assert ranking.reason.tolist() == ["over_ceiling", "", "", "over_ceiling"]


def test_an_overflow_is_unscorable_not_infinite() -> None:
    selector = selector_of("ifd")
    world = seen(selector.needs, [(2000.0, 1)], [(1.0, 1)])
    scores = selector.score(world)
    assert np.isnan(scores[0]) and selector.reasons(world, scores)[0] == "nonfinite"


def test_no_token_counted_is_unscorable() -> None:
    selector = selector_of("superfiltering")
    world = seen(selector.needs, [(1.0, 1)], [(0.0, 0)])
    scores = selector.score(world)
    assert np.isnan(scores[0]) and selector.reasons(world, scores)[0] == "nonfinite"


def test_the_modes_measure_different_texts() -> None:
    exact, ours = selector_of("superfiltering"), selector_of("ifd")
    assert {need.text for need in exact.needs} == {"superfiltering"}
    assert {need.text for need in ours.needs} == {"template"}
    for selector in (exact, ours):
        assert [need.given for need in selector.needs] == ["prompt", "nothing"]


@pytest.mark.parametrize("span", ["response", "full"])
def test_perplexity_is_exp_of_the_mean_over_its_span(span: str) -> None:
    selector = selector_of(f"perplexity(span={span})", "high")
    assert [need.span for need in selector.needs] == [span]
    scores = selector.score(seen(selector.needs, [(0.0, 2), (2 * math.log(50), 2)]))
    assert scores == pytest.approx([1.0, 50.0])


def test_perplexity_keeps_the_raw_orientation_whatever_the_direction() -> None:
    low, high = selector_of("perplexity", "low"), selector_of("perplexity(direction=high)")
    world = seen(low.needs, [(1.0, 1), (3.0, 1), (2.0, 1)])
    assert np.array_equal(low.score(world), high.score(world))
    ranked = [each.ranker().rank(each.score(world), np.arange(3)).order for each in (low, high)]
    assert [order.tolist() for order in ranked] == [[0, 2, 1], [1, 2, 0]]


def test_perplexity_without_a_direction_can_score_but_not_pick() -> None:
    selector = selector_of("perplexity")
    assert selector.direction is None
    assert selector.score(seen(selector.needs, [(0.0, 1)])).tolist() == [1.0]
    with pytest.raises(UsageError, match="contradict each other") as caught:
        selector.ranker()
    assert caught.value.exit_code == 2 and "--direction" in str(caught.value.hint)


def test_monotone_changes_of_the_loss_leave_the_middle_where_it_was() -> None:
    selector = selector_of("perplexity(direction=middle)")
    values = np.random.default_rng(0).permutation(50) / 10 + 1
    tie = tie_rank([""] * 50, [f"{i}" for i in range(50)])
    middle = selector.ranker().rank(values, tie).order[:20]
    assert set(middle) == set(selector.ranker().rank(np.log(values) * 3, tie).order[:20])


def test_longest_counts_response_tokens_and_leaves_empty_ones_out() -> None:
    world = seen_of(3)
    world = RowFeatures(world.ids, world.n_prompt_tokens, np.array([4, 0, 9]))
    selector = selector_of("longest")
    scores = selector.score(world)
    assert scores[[0, 2]].tolist() == [4.0, 9.0] and np.isnan(scores[1])
    assert selector.reasons(world, scores).tolist() == ["", "no_response_tokens", ""]
    assert selector.ranker().rank(scores, np.arange(3)).order.tolist() == [2, 0]


def test_random_can_draw_every_row_and_another_seed_draws_others() -> None:
    world = seen_of(300)
    picks = [set(np.argsort(-selector_of(f"random(seed={s})").score(world))[:100]) for s in (0, 1)]
    assert 15 < len(picks[0] & picks[1]) < 55  # a third of 100 by chance
    assert not selector_of("random").reasons(world, selector_of("random").score(world)).any()


def test_directions_choose_the_picker() -> None:
    assert isinstance(selector_of("ifd", "middle").ranker(), Middle)
    assert selector_of("superfiltering").ranker() == selector_of("superfiltering", "high").ranker()
    low = selector_of("superfiltering", "low").ranker()
    assert isinstance(low, Top) and low.direction == "low" and low.gate.below == 1.0
