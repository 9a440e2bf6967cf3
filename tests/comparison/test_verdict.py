"""The verdict: each outcome, the rule for a claim, directions, and what the sentence says."""

import re

import numpy as np
import pytest

from pilotfish.comparison.contrast import margin_of
from pilotfish.comparison.data import ComparisonData
from pilotfish.comparison.verdict import decide
from pilotfish.errors import DataError, UsageError
from pilotfish.stats import difference
from tests.comparison.makers import arm, drawn
from tests.stats.simulate import arms as simulated

BASE = {"length_matched": drawn(0.5, seed=99)}


def verdict(
    results, *, metric="exact_match", higher=True, trusted=False, margin=None, alpha=0.05, **options
):
    data = ComparisonData(results, metric, higher, margin_of(metric, margin), alpha=alpha)
    return decide(data, evidence="full", trusted=trusted, **options)


def test_a_clear_win_is_better_with_its_numbers():
    results = {**BASE, "selected": drawn(0.8, seed=1), "random": drawn(0.5, seed=2)}
    found = verdict(results)
    a, b = (
        np.array([list(row.values()) for row in results[x].values()])
        for x in ("selected", "random")
    )
    expected = difference(a, b)
    assert (found.outcome, found.arm, found.against) == ("better", "selected", "random")
    assert (found.difference, found.low, found.high) == (
        expected.value,
        expected.low,
        expected.high,
    )
    assert f"{a.mean():.3f} against {b.mean():.3f} exact match" in found.sentence
    assert f"selected minus random is +{expected.value:.3f}" in found.sentence
    assert "3 seeds each, 400 items" in found.sentence
    assert found.sentence.startswith("Selected rows beat an equal number of random rows")


def test_when_random_wins_it_says_so():
    found = verdict({**BASE, "selected": drawn(0.5, seed=1), "random": drawn(0.8, seed=2)})
    assert found.outcome == "worse"
    assert found.difference < 0
    assert found.sentence.startswith(
        "Random won: an equal number of random rows beat selected rows, 0."
    )


def test_swapping_the_arms_flips_sign_and_outcome():
    a, b = drawn(0.8, seed=1), drawn(0.5, seed=2)
    one, other = (
        verdict({**BASE, "selected": a, "random": b}),
        verdict({**BASE, "selected": b, "random": a}),
    )
    assert (one.outcome, other.outcome) == ("better", "worse")
    assert one.difference == pytest.approx(-other.difference)
    assert one.low == pytest.approx(-other.high)


def test_a_lower_loss_is_better_and_the_difference_stays_raw():
    rng = np.random.default_rng(0)
    hard = rng.gamma(2.0, 1.0, 300)
    low, high = (arm(*(hard + shift + rng.normal(0, 0.02, (3, 300)))) for shift in (0.0, 0.5))
    results = {"selected": low, "random": high, "length_matched": high}
    found = verdict(results, metric="loss", higher=False)
    assert found.outcome == "better"
    assert found.difference == pytest.approx(-0.5, abs=0.02)
    assert found.margin == 0.01
    assert "nats per token (lower is better)" in found.sentence
    assert found.sentence.startswith("Selected rows beat")
    flipped = verdict({**results, "selected": high, "random": low}, metric="loss", higher=False)
    assert flipped.outcome == "worse"
    assert flipped.sentence.startswith("Random won")


def test_inside_the_margin_is_equivalent():
    # the same items right in every seed but for one: nearly the same models
    base = np.tile([0.0, 1.0], 500)
    rows = [base.copy() for _ in range(3)]
    for at, row in enumerate(rows):
        row[2 * at] = 1.0
    results = {name: arm(*rows) for name in ("selected", "random", "length_matched")}
    found = verdict(results)
    assert found.outcome == "equivalent"
    assert -0.02 < found.low < 0 < found.high < 0.02
    assert "margin of 0.020" in found.sentence


def test_the_margin_decides_between_equivalent_and_undecided():
    results = {**BASE, "selected": drawn(0.5, seed=1), "random": drawn(0.5, seed=2)}
    tight, wide = verdict(results, margin=0.001), verdict(results, margin=0.5)
    assert (tight.outcome, wide.outcome) == ("undecided", "equivalent")
    assert (tight.low, tight.high) == (wide.low, wide.high)


def test_a_metric_without_a_margin_is_never_equivalent():
    same = drawn(0.5, seed=4)
    found = verdict({"selected": same, "random": same, "length_matched": same}, metric="bleu")
    assert (found.outcome, found.margin) == ("undecided", None)


def test_a_win_below_the_margin_is_still_a_win_and_says_it_is_small():
    base = np.tile([0.0, 1.0], 500)
    better = base.copy()
    better[:10] = 1.0  # five of a thousand items gained, in every seed
    results = {"selected": arm(better, better, better), "random": arm(base, base, base)}
    found = verdict({**results, "length_matched": results["random"]})
    assert found.outcome == "better"
    assert "less than the margin of 0.020" in found.sentence


def test_undecided_says_what_would_decide():
    found = verdict({**BASE, "selected": drawn(0.53, seed=1), "random": drawn(0.5, seed=2)})
    assert found.outcome == "undecided"
    assert re.search(
        r"about [\d,]+ (seeds per arm instead of 3|items instead of 400)", found.sentence
    )


@pytest.mark.parametrize(
    ("short", "words"),
    [
        ({"random": drawn(0.5, seeds=2)}, "random has 2"),
        ({"selected": drawn(0.9, seeds=2)}, "selected has 2"),
        ({"length_matched": {}}, "length_matched has none"),
    ],
)
def test_without_three_seeds_of_every_control_it_is_an_indication(short, words):
    results = {**BASE, "selected": drawn(0.9, seed=1), "random": drawn(0.5, seed=2), **short}
    found = verdict(results)
    assert found.outcome == "not_tested"
    assert found.difference > 0.3
    assert found.low > 0  # two seeds still have an interval, it is just no claim
    assert (
        "only an indication: on average selected rows did better than an equal number of random "
        "rows" in found.sentence
    )
    assert words in found.sentence
    assert "--evidence full --seeds 3" in found.sentence


def test_one_seed_has_a_difference_and_no_interval():
    found = verdict({"selected": drawn(0.9, seeds=1), "random": drawn(0.5, seeds=1)})
    assert found.outcome == "not_tested"
    assert found.difference is not None
    assert found.low is found.high is None
    assert "no interval" in found.sentence


def test_without_random_nothing_is_known():
    found = verdict({"selected": drawn(0.9)})
    assert (found.outcome, found.difference) == ("not_tested", None)
    assert "there are no results for random (evidence: full)" in found.sentence
    assert verdict({}).outcome == "not_tested"


def test_level_arms_are_called_level():
    one = arm([1.0, 0.0, 1.0])
    found = verdict({"selected": one, "random": one})
    assert "selected rows and an equal number of random rows came out level" in found.sentence


def test_unscorable_items_are_left_out_and_counted():
    selected, random = drawn(0.8, seed=1), drawn(0.5, seed=2)
    holed = {s: {**row, "item-000": float("nan")} for s, row in selected.items()}
    found = verdict({**BASE, "selected": holed, "random": random})
    without = [
        {s: {k: v for k, v in row.items() if k != "item-000"} for s, row in x.items()}
        for x in (selected, random)
    ]
    clean = verdict({**BASE, "selected": without[0], "random": without[1]})
    assert (found.low, found.high) == (clean.low, clean.high)
    assert "unscorable" not in clean.sentence
    assert "3 seeds each, 399 items, 1 more unscorable" in found.sentence


def test_nothing_scorable_is_not_tested():
    nothing = arm(*[[float("nan")] * 4] * 3)
    found = verdict({"selected": nothing, "random": nothing, "length_matched": nothing})
    assert (found.outcome, found.difference, found.low) == ("not_tested", None, None)
    assert "cannot be compared" in found.sentence


def test_missing_items_are_refused():
    short = {s: dict(list(row.items())[1:]) for s, row in drawn(0.5).items()}
    with pytest.raises(
        DataError, match=r"random seed 0 was not evaluated on 1 of 400 items.*item-000"
    ):
        verdict({**BASE, "selected": drawn(0.8), "random": short})


def test_item_order_and_seed_labels_are_free():
    selected, random = drawn(0.8, seed=1), drawn(0.5, seed=2)
    moved = {s + 40: dict(reversed(row.items())) for s, row in reversed(random.items())}
    one = verdict({**BASE, "selected": selected, "random": random})
    other = verdict({**BASE, "selected": selected, "random": moved})
    assert one.low == pytest.approx(other.low)
    assert one.sentence == other.sentence


def test_trusted_rows_without_their_own_arm_are_named():
    results = {**BASE, "selected": drawn(0.8, seed=1), "random": drawn(0.5, seed=2)}
    assert "trusted rows alone" in verdict(results, trusted=True).sentence
    assert "trusted" not in verdict(results).sentence
    assert "No model" not in verdict({**results, "trusted": drawn(0.5)}, trusted=True).sentence


def test_a_selection_arm_with_trusted_rows_has_no_fair_random():
    with pytest.raises(UsageError, match="contains trusted rows and random does not"):
        verdict({}, arm="trusted_selected")


def test_500_verdicts_without_a_difference_are_wrong_in_five_percent():
    rng, false = np.random.default_rng(7), 0
    for _ in range(500):
        selected, random = simulated(rng, seeds=(3, 3), items=200, spread=0.016)
        results = {"selected": arm(*selected), "random": arm(*random)}
        found = verdict({**results, "length_matched": results["random"]})
        false += found.outcome in ("better", "worse")
    assert 0.03 <= false / 500 <= 0.07


def test_the_interval_s_level_is_said():
    results = {**BASE, "selected": drawn(0.8, seed=1), "random": drawn(0.5, seed=2)}
    assert "(90% interval" in verdict(results, alpha=0.1).sentence


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan"), float("inf")])
def test_a_margin_that_is_no_number_above_zero_is_refused(margin: float):
    with pytest.raises(UsageError, match="above 0"):
        verdict({}, margin=margin)


def test_the_fields_are_those_of_the_contract():
    fields = verdict({**BASE, "selected": drawn(0.8), "random": drawn(0.5)}).as_dict()
    contract = {"outcome", "against", "metric", "difference", "low", "high", "margin", "sentence"}
    assert contract <= fields.keys()
