"""The cascade: recall as promised over simulated pools, its interval, and its edges."""

import numpy as np
import pytest

from pilotfish.budget import parse_budget
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Gate, Middle, Top
from pilotfish.scoring.audit import cuts_of
from pilotfish.scoring.audit.cascade import Recall, draw, plan, recall
from tests.scoring.audit.simulate import two_models


def story(seed, n, *, ranker, calibration, budget="10%", audit=300, target=0.95, **pool):
    """(recall when passed on, recall of the final picks, cascade, estimate) of one pool."""
    cheap, intended, tie = two_models(np.random.default_rng(seed), n, **pool)
    cuts = cuts_of(ranker, parse_budget(budget))
    rows = draw(tie, calibration, seed=seed)
    cascade = plan(cheap, tie, cuts, rows, intended[rows], target=target)
    audited = draw(tie, audit, seed=seed + 1, among=~cascade.passed)
    known = np.full(n, np.nan)
    known[cascade.passed], known[audited] = intended[cascade.passed], intended[audited]
    found = recall(cascade, tie, cuts, known, audited)
    true = cuts.kept(intended, tie)
    size = max(1, true.sum())
    return (true & cascade.passed).sum() / size, (true & found.kept).sum() / size, cascade, found


@pytest.mark.parametrize(
    ("ranker", "pool"),
    [
        (Top("high", Gate(below=1.0)), {"correlation": 0.9, "lost": 0.01}),
        (Top("low"), {"correlation": 0.8}),
        (Top("high", Gate(below=1.0)), {"correlation": 0.95, "digits": 1}),  # a dozen values
    ],
    ids=["gate", "low", "ties"],
)
def test_recall_and_interval_hold_over_simulated_pools(ranker, pool) -> None:
    runs = [story(seed, 3_000, ranker=ranker, calibration=1_000, **pool) for seed in range(60)]
    reached = np.mean([passed >= 0.95 for passed, *_ in runs])
    covered = np.mean([each.low - 1e-9 <= real <= each.high + 1e-9 for _, real, _, each in runs])
    assert reached >= 0.95
    assert covered >= 0.95
    assert np.mean([cascade.share for *_, cascade, _ in runs]) < 0.9  # and not by passing on all
    assert np.std([each.value - real for _, real, _, each in runs]) < 0.02


def test_the_promise_is_not_empty() -> None:
    """With a target that can hardly be missed by luck, runs do lie below a higher one."""
    runs = [
        story(seed, 3_000, ranker=Top("low"), calibration=1_000, correlation=0.8, target=0.8)[0]
        for seed in range(25)
    ]
    assert np.mean([passed >= 0.8 for passed in runs]) >= 0.95
    assert np.mean([passed >= 0.95 for passed in runs]) < 0.8


@pytest.mark.parametrize("calibration", [0, 1, 50, 300])
def test_a_sample_too_small_passes_everything_on(calibration) -> None:
    passed, real, cascade, found = story(
        1, 3_000, ranker=Top("high"), calibration=calibration, correlation=0.9
    )
    assert cascade.everything and cascade.share == 1.0
    assert (passed, real, found.value, found.low, found.high) == (1, 1, 1, 1, 1)


def test_equal_models_pass_on_hardly_more_than_the_picks() -> None:
    passed, _, cascade, found = story(
        2, 10_000, ranker=Top("high"), calibration=1_500, correlation=1.0, audit=1_000
    )
    assert passed >= 0.99
    assert cascade.share < 0.35  # picks 10%, calibration 15% of what is left, and the margin
    assert found.value > 0.99


def test_what_the_cheap_model_cannot_score_is_passed_on() -> None:
    cheap, intended, tie = two_models(np.random.default_rng(3), 3_000, correlation=0.95)
    cheap[:40] = np.nan
    cuts, rows = cuts_of(Top("high"), parse_budget("10%")), draw(tie, 1_200, seed=0)
    cascade = plan(cheap, tie, cuts, rows, intended[rows])
    assert cascade.passed[:40].all() and cascade.passed[rows].all()
    assert not cascade.everything
    low, high = cascade.threshold
    between = np.isfinite(cheap) & (cheap >= low) & (cheap <= high)
    assert cascade.passed[between].all()
    assert high == np.nanmax(cheap)


def test_all_unscorable_by_the_intended_model_passes_everything_on() -> None:
    cheap, _, tie = two_models(np.random.default_rng(4), 500, correlation=0.9)
    cuts, rows = cuts_of(Top("high"), parse_budget("10%")), draw(tie, 400, seed=0)
    assert plan(cheap, tie, cuts, rows, np.full(400, np.nan)).everything


def test_k_of_all_rows_needs_all_but_what_the_target_spares() -> None:
    passed, _, cascade, _ = story(
        5, 2_000, ranker=Top("high"), calibration=800, budget="100%", correlation=0.9
    )
    assert passed == cascade.share == 1.0


def test_the_whole_pool_as_sample_leaves_nothing_to_guess() -> None:
    passed, real, _, found = story(6, 400, ranker=Top("high"), calibration=400, correlation=0.5)
    assert (passed, real, found.low, found.audited) == (1, 1, 1, 0)


def test_no_audit_means_no_lower_bound_worth_the_name() -> None:
    *_, found = story(7, 3_000, ranker=Top("low"), calibration=1_000, correlation=0.8, audit=0)
    assert (found.low, found.high, found.audited) == (0.0, 1.0, 0)


def test_the_order_of_the_rows_is_free() -> None:
    cheap, intended, tie = two_models(np.random.default_rng(8), 3_000, correlation=0.9)
    cuts, moved = (
        cuts_of(Top("low"), parse_budget("10%")),
        np.random.default_rng(9).permutation(3_000),
    )
    found = []
    for order in (np.arange(3_000), moved):
        one, other, ties = cheap[order], intended[order], tie[order]
        rows = draw(ties, 1_000, seed=4)
        found.append(set(ties[plan(one, ties, cuts, rows, other[rows]).passed]))
    assert found[0] == found[1]


def test_the_interval_by_hand() -> None:
    # Ten picks asked of 100 rows; 50 passed on, scores 50 to 99; of the rest all are audited and
    # one, at 95.5, belongs to the picks and joins them: nothing is left to miss.
    intended = np.arange(100.0)
    intended[3] = 95.5
    passed = np.arange(100) >= 50
    cuts = cuts_of(Top("high"), parse_budget("10rows"))
    cascade = plan(intended, np.arange(100), cuts, np.arange(0), np.empty(0))
    cascade = type(cascade)(passed, (50.0, 99.0), 0.95, 0.95, 10, 0, 0)
    found = recall(cascade, np.arange(100), cuts, intended, np.arange(50))
    assert (found.found, found.value, found.low, found.high) == (1, 1.0, 1.0, 1.0)
    assert found.kept[3] and not found.kept[90]
    # A fifth of them audited, the lost one among them: it stands for five of ten picks.
    fewer = recall(cascade, np.arange(100), cuts, intended, np.arange(10))
    assert fewer.value == pytest.approx(1 - (5 - 1) / 10)
    assert fewer.low < fewer.value < fewer.high == 1.0


@pytest.mark.parametrize(
    ("ranker", "budget", "said"),
    [(Middle(), "10%", "one end"), (Top("high"), "50tokens", "token budget")],
)
def test_what_a_cascade_cannot_promise_is_refused(ranker, budget, said) -> None:
    cuts = cuts_of(ranker, parse_budget(budget), tokens=np.ones(20, dtype=int))
    with pytest.raises(UsageError, match=said):
        plan(np.arange(20.0), np.arange(20), cuts, np.arange(5), np.arange(5.0))


def test_the_sentence_never_says_identical_without_not() -> None:
    found = Recall(0.97, 0.955, 0.99, 0.95, 300, 2, np.zeros(3, dtype=bool))
    assert found.sentence == (
        "recall .97 [.955, .99] of the rows the intended model would have picked; not identical"
    )
    assert Recall(1.0, 0.0, 1.0, 0.95, 0, 0, np.zeros(3, dtype=bool)).sentence.startswith(
        "recall 1 [0, 1] of"
    )


@pytest.mark.slow
@pytest.mark.parametrize("n", [2_000, 10_000])
@pytest.mark.parametrize("correlation", [0.7, 0.9, 0.98])
def test_recall_over_three_hundred_pools(n, correlation) -> None:
    ranker, calibration = Top("high", Gate(below=1.0)), max(900, n // 8)
    runs = [
        story(seed, n, ranker=ranker, calibration=calibration, correlation=correlation)
        for seed in range(300)
    ]
    assert np.mean([passed >= 0.95 for passed, *_ in runs]) >= 0.95
    covered = [each.low - 1e-9 <= real <= each.high + 1e-9 for _, real, _, each in runs]
    assert np.mean(covered) >= 0.95
