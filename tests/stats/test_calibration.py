"""Simulated comparisons with a known truth: false alarms and coverage of the primary interval."""

import numpy as np
import pytest

from pilotfish.stats import difference, mean
from tests.stats.simulate import arms

SEEDS = (2, 3, 5)
SPREADS = (0.005, 0.02, 0.05)
ITEMS = (200, 500, 1000)


def _grid(count, rng):
    """`count` settings drawn from the whole grid."""
    for _ in range(count):
        yield int(rng.choice(SEEDS)), float(rng.choice(SPREADS)), int(rng.choice(ITEMS))


def _false_alarms(count, settings, rng, **truth):
    alarms = 0
    for s, spread, items in settings(count, rng):
        found = difference(*arms(rng, seeds=(s, s), items=items, spread=spread, **truth))
        alarms += found.low > 0 or found.high < 0
    return alarms / count


def test_500_comparisons_without_a_difference_alarm_in_five_percent():
    assert 0.03 <= _false_alarms(500, _grid, np.random.default_rng(2024)) <= 0.07


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("spread", [0.005, 0.05])
def test_false_alarms_at_each_number_of_seeds(seeds, spread):
    def settings(count, rng):
        return [(seeds, spread, 300)] * count

    assert (
        0.03 <= _false_alarms(1000, settings, np.random.default_rng(seeds), interaction=0) <= 0.07
    )


@pytest.mark.parametrize("interaction", [0.0, 0.1])
def test_intervals_cover_a_known_difference(interaction):
    rng, covered, count = np.random.default_rng(11), 0, 1000
    for s, spread, items in _grid(count, rng):
        a, b = arms(
            rng, seeds=(s, s), items=items, spread=spread, gap=0.06, interaction=interaction
        )
        found = difference(a, b)
        covered += found.low <= 0.06 <= found.high
    assert 0.93 <= covered / count <= 0.97


def test_intervals_of_unequal_numbers_of_seeds_cover_too():
    rng, covered, count = np.random.default_rng(12), 0, 800
    for _ in range(count):
        found = difference(*arms(rng, seeds=(3, 5), items=300, spread=0.02, gap=0.05))
        covered += found.low <= 0.05 <= found.high
    assert 0.93 <= covered / count <= 0.97


def test_single_arm_intervals_cover_the_true_mean():
    rng, covered, count = np.random.default_rng(13), 0, 1000
    for s, spread, items in _grid(count, rng):
        found = mean(arms(rng, seeds=(s, s), items=items, spread=spread)[0])
        covered += found.low <= 0.5 <= found.high
    assert 0.93 <= covered / count <= 0.97
