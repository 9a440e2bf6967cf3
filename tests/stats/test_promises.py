"""A small slice of `benchmarks.aa_calibration`: the tests keep their promises, within its noise."""

import numpy as np
import pytest
from benchmarks.aa_calibration import (
    LEVEL,
    Setting,
    advised,
    by_holm,
    chosen,
    compared,
    drawn,
    guarded,
    plain_items,
    plain_seeds,
    rivals,
)  # fmt: skip
from benchmarks.growing import Trial

from pilotfish.stats import difference, holm, needed

# Three standard errors of a share of .05 among 400 are .033.


@pytest.mark.parametrize("setting", [Setting(3, 300, 0.02), Setting(5, 1000, 0.01)])
def test_false_alarms_and_coverage(setting):
    found = compared(setting, 400, 0)
    assert found["false_alarms"] <= 0.083 and found["covered"] >= 0.917


@pytest.mark.slow
def test_guards_err_as_often_as_promised_at_the_margin():
    found = guarded(Setting(3, 300, 0.02), 150, 0)
    assert found["wrong_pass"] < 0.11 and found["wrong_fail"] < 0.11
    assert found["fail_when_equal"] <= found["wrong_fail"]


@pytest.mark.slow
def test_the_best_of_five_alarms_more_than_a_split_or_holm():
    found = chosen(Setting(5, 1000, 0.05), 300, 0)
    assert found["naive"] > found["holm"] and found["naive"] > found["split_items_and_seeds"]
    assert found["holm"] < 0.10 and found["split_items_and_seeds"] < 0.10


def test_the_fast_way_to_ask_holm_agrees_with_holm():
    rng = np.random.default_rng(0)
    for _ in range(6):
        *methods, random = drawn(rng, (0.75, 0.72, LEVEL, LEVEL), seeds=3, items=300, spread=0.02)
        slow = holm([difference(one, random).p or 1.0 for one in methods])
        assert any(by_holm(methods, random)) == any(p < 0.05 for p in slow)


def test_following_the_advice_decides_more_often_than_not():
    found = advised(Setting(3, 1000, 0.01), 50, 0)
    assert found["undecided_3"] > 0.3 and found["seeds_decide_3"] > 0.5


def test_the_plain_extrapolation_is_never_the_more_cautious_one():
    rng, more = np.random.default_rng(5), 0
    for _ in range(40):
        found = difference(*drawn(rng, (0.73, LEVEL), seeds=3, items=300, spread=0.01))
        if found.low < 0 < found.high and (advice := needed(found)).seeds:
            assert plain_seeds(found) <= advice.seeds
            assert advice.items is None or plain_items(found) <= 1.05 * advice.items
            more += 1
    assert more


@pytest.mark.slow
def test_one_seed_pair_alarms_at_the_luck_of_its_seeds():
    found = rivals(Setting(3, 1000, 0.02), 200, 0)
    assert found["one_pair_alarms_0"] > 0.15 > 0.09 > found["difference_alarms_0"]
    assert found["difference_alarms_0"] <= found["seed_means_alarms_0"]
    assert found["difference_alarms_0.6"] <= found["difference_alarms_0"] + 0.02


def test_a_trial_that_grows_keeps_what_was_judged():
    trial = Trial(np.random.default_rng(0), (0.7, 0.6), 0.02)
    few, other = trial.judged(3, 200), trial.copy()
    many = trial.judged(5, 2000)
    assert all(np.array_equal(a, b[:3, :200]) for a, b in zip(few, many, strict=True))
    assert many[0].shape == (5, 2000) and other.values[0].shape == (3, 200)
    assert [one.mean() for one in many] == pytest.approx([0.7, 0.6], abs=0.04)
