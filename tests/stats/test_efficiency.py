"""The data-efficiency factor: by hand, censored, turned, and how often its interval holds."""

import math

import numpy as np
import pytest

from pilotfish.stats import efficiency
from pilotfish.stats.efficiency import isotonic, reached

ROWS = [100, 200, 400, 800]


def shares(*means, items=1000, seeds=3, seed=0):
    """Arms [seeds, items] of 0/1 with exactly these means."""
    rng = np.random.default_rng(seed)
    rows = [np.arange(items) < round(mean * items) for mean in means]
    return [np.stack([rng.permutation(row) for _ in range(seeds)]).astype(float) for row in rows]


def factor(picked, random, at, **options):
    both = shares(*picked, *random)
    return efficiency(ROWS[: len(random)], both[: len(picked)], both[len(picked) :], at, **options)


def test_by_hand_halfway_in_log_rows():
    found = factor((0.55, 0.6, 0.6, 0.7), (0.5, 0.6, 0.7, 0.8), 100, draws=0)
    assert found.value == pytest.approx(math.sqrt(2)) and found.censored == ""
    assert factor((0.5, 0.8, 0.6, 0.7), (0.5, 0.6, 0.7, 0.8), 200, draws=0).value == pytest.approx(
        4
    )


def test_the_random_arm_itself_has_factor_one():
    means = (0.5, 0.6, 0.7, 0.8)
    arms = shares(*means)
    for at in ROWS:
        found = efficiency(ROWS, arms, arms, at, draws=200)
        assert found.value == pytest.approx(1.0)
        assert (found.low or 0.0) <= 1.0 <= (found.high or math.inf)


def test_censored_above_and_below():
    above = factor((0.9,) * 4, (0.5, 0.6, 0.7, 0.8), 100)
    assert (above.value, above.censored) == (8.0, "above")
    assert above.low == pytest.approx(8.0) and above.high is None
    assert above.boot_low is None and above.boot_high is None
    below = factor((0.4,) * 4, (0.5, 0.6, 0.7, 0.8), 400)
    assert (below.value, below.censored) == (0.25, "below")
    assert below.low is None and below.high == pytest.approx(0.25)


def test_an_interval_that_leaves_the_curve_is_open_there():
    found = factor((0.79,) * 4, (0.5, 0.6, 0.7, 0.8), 100, draws=400)
    assert found.censored == "" and found.high is None and 4.0 < found.low < found.value
    assert found.boot_high is None and found.boot_low < found.value


def test_a_dip_in_the_random_curve_is_pooled():
    assert isotonic(np.array([1.0, 3.0, 2.0, 4.0]), np.ones(4)).tolist() == [1.0, 2.5, 2.5, 4.0]
    assert isotonic(np.array([3.0, 2.0, 1.0]), np.array([1.0, 1.0, 2.0])).tolist() == [1.75] * 3
    dip = factor((0.65, 0.6, 0.6, 0.7), (0.5, 0.7, 0.6, 0.8), 100, draws=0)
    assert dip.value == pytest.approx(2.0)  # the pooled .65 is reached first at 200 rows


def test_isotonic_is_the_nearest_monotone_curve():
    """Against a slow search: no monotone curve on a grid of tenths is nearer."""
    rng = np.random.default_rng(0)
    grid = np.arange(0.0, 1.01, 0.1)
    monotone = np.array([[a, b, c] for a in grid for b in grid for c in grid if a <= b <= c])
    for _ in range(20):
        values, weights = rng.random(3), rng.integers(1, 4, 3).astype(float)
        best = isotonic(values, weights)
        cost = float((weights * (best - values) ** 2).sum())
        assert np.all(np.diff(best) >= 0)
        assert cost <= (weights * (monotone - values) ** 2).sum(axis=1).min() + 1e-12


def test_reached_takes_the_fewest_rows_of_a_plateau():
    rows, flat = np.array([10.0, 20.0, 40.0]), np.array([0.5, 0.5, 0.5])
    assert reached(rows, flat, 0.5) == (10.0, "")
    assert reached(rows, flat, 0.51) == (40.0, "above") and reached(rows, flat, 0.4) == (
        10.0,
        "below",
    )


def test_a_loss_gives_the_same_factor():
    picked, random = shares(0.65, 0.7, 0.7, 0.8), shares(0.5, 0.6, 0.7, 0.8)
    up = efficiency(ROWS, picked, random, 100, draws=50)
    lost = ([1 - arm for arm in side] for side in (picked, random))
    down = efficiency(ROWS, *lost, 100, draws=50, higher_is_better=False)
    assert down.value == pytest.approx(up.value) and down.low == pytest.approx(up.low)


def test_one_seed_has_a_value_and_no_interval():
    picked, random = shares(0.65, 0.7, 0.7, 0.8, seeds=1), shares(0.5, 0.6, 0.7, 0.8)
    found = efficiency(ROWS, picked, random, 100)
    assert found.value == pytest.approx(2**1.5) and "one seed" in found.why
    assert (found.low, found.high, found.boot_low, found.boot_high) == (None,) * 4


def test_nothing_judged_is_no_number():
    empty = [np.full((3, 4), np.nan)] * 2
    found = efficiency([10, 20], empty, empty, 10)
    assert found.value is None and found.why


def test_one_budget_is_only_a_bound_or_open():
    picked, random = shares(0.9), shares(0.5)
    found = efficiency([100], picked, random, 100, draws=50)
    assert (found.value, found.censored, found.low, found.high) == (1.0, "above", 1.0, None)
    same = efficiency([100], random, shares(0.5, seed=1), 100, draws=50)
    assert same.value == 1.0 and same.low is None and same.high is None


def test_item_order_is_free_and_a_seed_repeats():
    picked, random = shares(0.65, 0.7, 0.7, 0.8), shares(0.5, 0.6, 0.7, 0.8)
    order = np.random.default_rng(3).permutation(1000)
    one, again = (efficiency(ROWS, picked, random, 200, draws=100, seed=1) for _ in range(2))
    assert one == again
    mixed = efficiency(
        ROWS, [a[:, order] for a in picked], [a[:, order] for a in random], 200, draws=0
    )
    assert (mixed.value, mixed.low) == (pytest.approx(one.value), pytest.approx(one.low))


def test_wrong_input_is_refused():
    arms = shares(0.5, 0.6)
    for rows, picked, at, match in (
        ([200, 100], arms, 100, "ascending"),
        ([100, 200, 300], arms, 100, "as many arms"),
        ([100, 200], arms, 150, "no arm"),
        ([100, 200], [arms[0], arms[1][:, :5]], 100, "same items"),
    ):
        with pytest.raises(ValueError, match=match):
            efficiency(rows, picked, arms, at)


def test_the_interval_holds_the_true_factor():
    """Random arms on a line in log rows; the picked arm is worth three times its rows."""
    rng, held, alone = np.random.default_rng(0), 0, 0
    for _ in range(200):
        difficulty = rng.uniform(-0.25, 0.25, 400)
        truth = [0.5 + 0.06 * math.log2(n / 100) for n in [*ROWS, 300]]
        *random, picked = (_trained(rng, mean + difficulty, 0.01) for mean in truth)
        found = efficiency(ROWS, [picked] * 4, random, 100, draws=0)
        held += (found.low or 0.0) <= 3.0 <= (found.high or math.inf)
        alone += found.low is not None and found.high is not None
    assert held / 200 > 0.91 and alone > 100


def _trained(rng, level, spread):
    levels = level + rng.normal(0, spread, (3, 1))
    return (rng.random((3, level.size)) < levels).astype(float)
