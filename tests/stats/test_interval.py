"""Intervals: by hand, invariances, ties, and honesty in simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pilotfish.stats import bootstrap, difference, inside, mean, t_quantile
from tests.stats.simulate import arms

A = np.array([[1.0, 2.0, 3.0, 6.0], [2.0, 2.0, 5.0, 7.0]])
B = np.array([[0.0, 2.0, 1.0, 5.0], [1.0, 1.0, 2.0, 4.0]])


def test_difference_by_hand():
    found = difference(A, B)
    # seed means: A 3, 4; B 2, 2. Within-arm squares .5 and 0 over df 1 + 1.
    # seeds x items: A's rows differ by -1, 0, -2, -1 (mean -1): squares (0 + 1 + 1 + 0) / 2 = 1;
    # B's by -1, 1, -1, 1 (mean 0): 4 / 2 = 2. Together 3 over df 2 * 3.
    # item means differ by 1, .5, 2.5, 2 (mean 1.5): squares 2.5 over 3.
    assert found.value == pytest.approx(1.5)
    parts = found.parts
    assert parts.seed == pytest.approx(0.25)
    assert parts.noise == pytest.approx(0.5)
    assert parts.reps == 1.0
    assert parts.item == pytest.approx(2.5 / 3 - 0.5)
    by_seed, by_item = 0.25, (2.5 / 3 - 0.5) / 4
    half = math.hypot(
        t_quantile(0.975, 2) * math.sqrt(by_seed), t_quantile(0.975, 3) * math.sqrt(by_item)
    )
    assert (found.low, found.high) == pytest.approx((1.5 - half, 1.5 + half))
    assert found.seeds == (2, 2)
    assert (found.items, found.excluded) == (4, 0)


def test_without_interaction_it_is_the_t_test_on_seed_means():
    # every item answers alike inside a seed: nothing but the seed means can vary
    a = np.repeat([[0.4], [0.6], [0.8]], 10, axis=1)
    b = np.repeat([[0.1], [0.2], [0.3]], 10, axis=1)
    found = difference(a, b)
    pooled = (0.04 + 0.01) / 2  # variances of the seed means .04 and .01
    half = t_quantile(0.975, 4) * math.sqrt(pooled * 2 / 3)
    assert found.high - found.value == pytest.approx(half)
    assert found.p == pytest.approx(2 * (1 - _cdf4(0.4 / math.sqrt(pooled * 2 / 3))))


def _cdf4(t):
    # closed form of Student's t with 4 degrees of freedom
    u = t / math.sqrt(1 + t * t / 4)
    return 0.5 + 3 / 8 * u * (1 - u * u / 12)


def test_mean_by_hand():
    found = mean(A)
    assert found.value == pytest.approx(3.5)
    # noise 1 / 3; item means 1.5, 2, 4, 6.5: variance 15.5 / 3, less noise / 2
    assert found.parts.item == pytest.approx(15.5 / 3 - 1 / 6)
    assert found.parts.by_seed == pytest.approx(0.5 / 2)
    assert found.low < 3.5 < found.high


def test_p_is_the_level_whose_interval_touches_zero():
    found = difference(A, B)
    assert difference(A, B, alpha=found.p).low == pytest.approx(0, abs=1e-6)
    assert difference(A, A).p == 1.0


def test_a_deterministic_arm_varies_over_items_only():
    values = np.array([[1.0, 0.0, 1.0, 1.0]])
    found = mean(values, fixed=True)
    half = t_quantile(0.975, 3) * math.sqrt(0.25 / 4)
    assert found.low == pytest.approx(max(0, 0.75 - half))
    assert found.high == 1.0  # a share cannot be more
    both = difference(values, 1 - values, fixed=(True, True))
    assert both.value == 0.5
    assert both.high == 1.0


def test_one_seed_of_a_trained_arm_has_no_interval():
    for found in (mean(A[:1]), difference(A, B[:1]), difference(A[:1], B)):
        assert found.value is not None
        assert found.low is found.high is found.p is found.parts is None
    assert difference(A, B[:1], fixed=(False, True)).low is not None


def test_one_item_has_no_interval_and_none_has_no_value():
    assert difference(A[:, :1], B[:, :1]).low is None
    assert difference(A[:, :1], B[:, :1]).value == pytest.approx(1.0)
    assert difference(A[:, :0], B[:, :0]).value is None
    assert mean(np.full((2, 3), np.nan)).value is None


def test_nan_items_are_left_out_for_every_arm_and_counted():
    holed = np.insert(A, 2, [np.nan, 9.0], axis=1)
    filled = np.insert(B, 2, [4.0, 4.0], axis=1)
    found, clean = difference(holed, filled), difference(A, B)
    assert (found.low, found.high, found.items) == (clean.low, clean.high, 4)
    assert found.excluded == 1


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (A, B[:, :3], "same items"),
        (A[0], B[0], "matrix"),
        (np.empty((0, 4)), B, "matrix"),
    ],
)
def test_shapes_that_cannot_be_compared_are_refused(a, b, words):
    with pytest.raises(ValueError, match=words):
        difference(a, b)


def test_a_deterministic_arm_with_two_rows_is_refused():
    with pytest.raises(ValueError, match="one row"):
        mean(A, fixed=True)


@given(arrays(float, (5, 12), elements=st.sampled_from([0.0, 1.0])), st.permutations(range(12)))
def test_orders_are_free_and_swapping_the_arms_flips_the_sign(values, order):
    a, b = values[:2], values[2:]
    found = difference(a, b)
    moved = difference(a[::-1][:, order], b[[2, 0, 1]][:, order])
    swapped = difference(b, a)
    near = pytest.approx
    assert (moved.value, moved.low, moved.high) == near((found.value, found.low, found.high))
    assert (swapped.value, swapped.low) == near((-found.value, -found.high))
    assert swapped.p == near(found.p)
    assert swapped.seeds == (3, 2)


def test_the_scale_of_the_metric_is_free():
    found, scaled = difference(A, B), difference(10 * A + 3, 10 * B + 3)
    assert (scaled.low, scaled.high) == pytest.approx((10 * found.low, 10 * found.high))
    assert scaled.p == pytest.approx(found.p)


def test_perfect_arms_are_not_known_perfectly():
    ones = np.ones((3, 20))
    found = difference(ones, ones)
    # the exact 97.5% bound on a share never seen in 20 items
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert (found.low, found.value, found.p) == (-found.high, 0.0, 1.0)
    alone = mean(ones)
    assert alone.high == 1.0
    assert alone.low == pytest.approx(0.025 ** (1 / 20))
    assert difference(ones, 0 * ones).low == pytest.approx(0.025 ** (1 / 20))
    assert difference(ones, 0 * ones).p == pytest.approx(2 * 0.5**20)


def test_equal_seed_means_leave_the_items_to_speak():
    # both arms' seed means happen to agree, and the noise swallows the item part
    a = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    b = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    found = difference(a, b)
    assert found.parts.seed == 0.0
    gap = np.array([0.0, -0.5, 0.5, 0.0])
    assert found.high == pytest.approx(t_quantile(0.975, 3) * gap.std(ddof=1) / 2)


def test_more_seeds_and_more_items_narrow_the_interval():
    rng = np.random.default_rng(1)
    a, b = arms(rng, seeds=(8, 8), items=800, spread=0.03)
    wide = difference(a[:3, :100], b[:3, :100])
    assert difference(a, b).high - difference(a, b).low < wide.high - wide.low


def test_equivalence_is_an_interval_strictly_inside_the_margin():
    found = difference(A, A + 0.0)
    assert inside(found, 1.01 * found.high)
    assert not inside(found, found.high)
    assert not inside(difference(A, B[:1]), 100.0)


def test_bootstrap_is_reproducible_and_agrees_with_the_t_interval():
    rng = np.random.default_rng(5)
    a, b = arms(rng, seeds=(12, 12), items=300, spread=0.02, gap=0.05)
    found = difference(a, b)
    low, high = bootstrap(a, b, draws=2000, seed=7)
    assert (low, high) == bootstrap(a, b, draws=2000, seed=7)
    assert (low, high) != bootstrap(a, b, draws=2000, seed=8)
    # both count seeds and items; the bootstrap counts the noise twice, so it is the wider one
    assert low < found.value < high
    assert 0.9 < (high - low) / (found.high - found.low) < 1.8


def test_bootstrap_draws_items_once_for_both_arms():
    # an arm against itself plus a constant: pairing makes the difference exact
    a = np.random.default_rng(2).normal(size=(1, 50))
    assert bootstrap(a + 0.25, a, draws=300) == pytest.approx((0.25, 0.25))


def test_bootstrap_without_a_common_item_is_refused():
    with pytest.raises(ValueError, match="no item"):
        bootstrap(np.full((2, 3), np.nan), np.zeros((2, 3)))


def test_seed_means_equal_by_accident_leave_the_interval_to_the_items_whatever_the_rounding():
    # every seed gets one item of 60 right, in each arm: nothing is known about the difference
    n, right_a, right_b = 60, (16, 16, 16), (16, 16, 21)
    a, b = np.zeros((3, n)), np.zeros((3, n))
    a[range(3), right_a] = b[range(3), right_b] = 1.0
    found = difference(a, b)
    assert found.value == 0.0
    spread = 2 * (1 / 3) ** 2 / (n - 1)
    assert found.high == pytest.approx(t_quantile(0.975, n - 1) * math.sqrt(spread / n), rel=1e-6)
    assert found.low == -found.high
