"""ECE, confidence when wrong, and misfit, by hand and at their edges."""

import numpy as np
import pytest

from pilotfish.stats import confidence_when_wrong, ece, misfit


def arr(*values):
    return np.array(values, dtype=np.float64)


def test_ece_by_hand():
    confidence, right = arr(0.55, 0.58, 0.95, 0.97, 1.0), np.array([1, 0, 1, 1, 0], dtype=bool)
    # ten bins: two rows in (.5, .6] with |1 - 1.13| = .13, three in (.9, 1] with |2 - 2.92| = .92
    assert ece(confidence, right, bins=10) == pytest.approx((0.13 + 0.92) / 5)
    assert ece(confidence, right, bins=1) == pytest.approx(abs(3 - 4.05) / 5)


def test_an_edge_belongs_to_the_bin_below():
    # 0.5 with ten bins: bin (.4, .5], together with .45 and not with .55
    together = ece(arr(0.5, 0.45), np.array([True, False]), bins=10)
    apart = ece(arr(0.5, 0.55), np.array([True, False]), bins=10)
    assert together == pytest.approx(abs(1 - 0.95) / 2) and apart == pytest.approx((0.5 + 0.55) / 2)


def test_zero_confidence_has_a_bin():
    assert ece(arr(0.0), np.array([False])) == 0.0
    assert ece(arr(0.0), np.array([True])) == 1.0


def test_equal_mass_bins_keep_equal_confidences_together():
    confidence = arr(0.2, 0.6, 0.6, 0.6)
    right = np.array([False, True, True, False])
    # two bins by rank: .2 with the three .6, whose shared rank is 1 of 4
    assert ece(confidence, right, bins=2, equal_mass=True) == pytest.approx(0.0)
    # four bins: .2 alone, the rest in the second
    assert ece(confidence, right, bins=4, equal_mass=True) == pytest.approx((0.2 + 0.2) / 4)


@pytest.mark.parametrize("equal_mass", [False, True])
def test_perfectly_calibrated_rows_have_a_small_ece_and_order_is_free(equal_mass):
    rng = np.random.default_rng(0)
    confidence = rng.random(20_000)
    right = rng.random(20_000) < confidence
    found = ece(confidence, right, equal_mass=equal_mass)
    order = rng.permutation(20_000)
    assert found < 0.02
    assert ece(confidence[order], right[order], equal_mass=equal_mass) == pytest.approx(found)


def test_missing_confidence_is_left_out_and_nothing_left_is_nan():
    right = np.array([True, False])
    assert ece(arr(0.9, np.nan), right) == pytest.approx(0.1)
    assert np.isnan(ece(arr(np.nan, np.nan), right))
    assert np.isnan(ece(arr(), np.array([], dtype=bool)))


def test_confidence_when_wrong():
    right = np.array([True, False, False, False])
    assert confidence_when_wrong(arr(1.0, 0.9, 0.5, np.nan), right) == pytest.approx(0.7)
    assert np.isnan(confidence_when_wrong(arr(0.9), np.array([True])))


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="outside"):
        ece(arr(1.2), np.array([True]))
    with pytest.raises(ValueError, match="one length"):
        confidence_when_wrong(arr(0.5, 0.5), np.array([True]))
    with pytest.raises(ValueError, match="at least 1"):
        ece(arr(0.5), np.array([True]), bins=0)
    with pytest.raises(ValueError, match=r"\[n, K\]"):
        misfit(np.zeros((2, 3)), np.zeros((2, 2)))


def test_misfit_by_hand_and_zero_of_itself():
    half, skew = np.log([[0.5, 0.5]]), np.log([[0.8, 0.2]])
    by_hand = 0.8 * np.log(0.8 / 0.5) + 0.2 * np.log(0.2 / 0.5)
    assert misfit(skew, half) == pytest.approx(by_hand)
    assert misfit(skew, skew) == 0.0


def test_misfit_where_a_class_is_impossible():
    with np.errstate(divide="ignore"):
        sure, half = np.log([[1.0, 0.0]]), np.log([[0.5, 0.5]])
    assert misfit(sure, half) == pytest.approx(np.log(2.0))
    assert misfit(half, sure) == np.inf
    assert misfit(sure, sure) == 0.0


def test_misfit_leaves_out_rows_not_measured():
    rows = np.log([[0.5, 0.5], [0.9, 0.1]])
    lost = np.where([[False], [True]], np.nan, rows)
    assert misfit(rows, lost) == 0.0
    assert np.isnan(misfit(np.full((1, 2), np.nan), rows[:1]))
