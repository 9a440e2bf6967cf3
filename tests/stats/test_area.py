"""Area under a curve over log rows: by hand, its interval against `difference`, between curves."""

import math

import numpy as np
import pytest

from pilotfish.stats import area, contrast, difference, mean
from tests.stats.simulate import arms


def constant(*means):
    return [np.full((3, 50), value) for value in means]


def test_by_hand():
    # log2 rows 0, 1, 3: (.4 + .6) / 2 * 1 + (.6 + .9) / 2 * 2 = 2.0, over a range of 3
    assert area([1, 2, 8], constant(0.4, 0.6, 0.9)).value == pytest.approx(2.0 / 3)
    assert area([7, 70], constant(0.4, 0.6)).value == pytest.approx(0.5)
    assert area([3, 9, 11], constant(0.3, 0.3, 0.3)).value == pytest.approx(0.3)


def test_between_two_curves():
    one, two = constant(0.4, 0.6, 0.9), constant(0.3, 0.5, 0.8)
    assert area([1, 2, 8], one, against=two).value == pytest.approx(0.1)
    assert area([1, 2, 8], one, against=one).value == pytest.approx(0.0)


def test_a_contrast_of_two_is_the_difference_and_of_one_the_mean():
    a, b = arms(np.random.default_rng(0), seeds=(3, 4), items=200, spread=0.02)
    assert contrast([a, b], [1.0, -1.0]) == difference(a, b)
    assert contrast([a], [1.0]) == mean(a)
    assert contrast([a, b], [1.0, 0.0]) == mean(a)


def test_the_interval_holds_the_true_area():
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        first, second = arms(rng, seeds=(3, 3), items=300, spread=0.02, gap=0.1, interaction=0.03)
        third, fourth = arms(rng, seeds=(3, 3), items=300, spread=0.02, gap=0.1)
        found = area([10, 100], [first, third], against=[second, fourth])
        held += found.low <= 0.1 <= found.high
    assert held / 200 > 0.91


def test_three_seeds_average_to_a_narrower_area_than_any_point():
    rng = np.random.default_rng(2)
    curve = [arms(rng, seeds=(3, 3), items=400, spread=0.02)[0] for _ in range(4)]
    whole = area([1, 2, 4, 8], curve)
    assert whole.high - whole.low < max(mean(one).high - mean(one).low for one in curve)
    assert math.isclose(whole.parts.reps, (2 * (1 / 6) ** 2 + 2 * (1 / 3) ** 2) / 3)


def test_one_seed_has_no_interval_and_wrong_input_is_refused():
    lone = [np.zeros((1, 5)), np.ones((3, 5))]
    assert area([1, 2], lone).value == pytest.approx(0.5) and area([1, 2], lone).low is None
    for rows in ([5], [5, 5], [9, 3], [0, 3]):
        with pytest.raises(ValueError, match="ascending"):
            area(rows, constant(0.1, 0.2))
    with pytest.raises(ValueError, match="as many arms"):
        area([1, 2, 3], constant(0.1, 0.2))
    with pytest.raises(ValueError, match="weight"):
        contrast(constant(0.1), [0.0])
