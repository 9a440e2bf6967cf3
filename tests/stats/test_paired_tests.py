"""McNemar, Holm and paired differences by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.stats import holm, mcnemar, paired


def test_mcnemar_test_vector():
    assert mcnemar(30, 48) == pytest.approx(0.0535, abs=5e-5)


def test_mcnemar_by_hand():
    # 5 discordant, 0 against: 2 * (1/2)^5
    assert mcnemar(0, 5) == 0.0625
    # 1 of 6: 2 * (1 + 6) / 64
    assert mcnemar(1, 5) == pytest.approx(14 / 64)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_symmetric_and_a_probability(b, c):
    assert mcnemar(b, c) == mcnemar(c, b)
    assert 0 < mcnemar(b, c) <= 1


def test_mcnemar_agrees_with_binomials_summed_in_whole_numbers():
    for b, c in ((0, 0), (3, 11), (40, 17), (300, 352), (0, 1000), (100, 900), (2000, 2001)):
        ways = sum(math.comb(b + c, k) for k in range(min(b, c) + 1))
        exact = min(1.0, 2 * ways / 2 ** (b + c))
        assert mcnemar(b, c) == pytest.approx(exact, rel=1e-11, abs=0)


def test_mcnemar_of_huge_counts_is_the_normal_one():
    n, apart = 2 * 10**9, 10**5  # z = (2 * apart - 1) / sqrt(n), continuity corrected
    normal = math.erfc((2 * apart - 1) / math.sqrt(n) / math.sqrt(2))
    assert mcnemar(n // 2 - apart, n // 2 + apart) == pytest.approx(normal, rel=1e-5)


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 3)


@pytest.mark.parametrize("b", [0, 1, 7, 2000, 10**9])
def test_mcnemar_of_equal_counts_is_one(b):
    assert mcnemar(b, b) == 1.0


def test_paired_vector_of_the_guide():
    # n = 1000, 30 against 48 discordant: difference .018, SE .0088
    gap = np.r_[np.ones(48), -np.ones(30), np.zeros(922)]
    found = paired(gap, np.zeros(1000))
    assert found.difference == pytest.approx(0.018)
    assert found.se == pytest.approx(0.0088, abs=5e-5)
    assert found.items == 1000


def test_paired_se_is_below_the_unpaired_one_at_positive_correlation():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=500)
    a, b = shared + rng.normal(size=500), shared + rng.normal(size=500)
    unpaired = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 500)
    assert paired(a, b).se < unpaired


def test_paired_leaves_nan_out_and_counts():
    found = paired(np.array([1.0, np.nan, 3.0]), np.array([0.0, 5.0, 1.0]))
    assert found == (1.5, pytest.approx(0.5), 2)
    assert math.isnan(paired(np.array([np.nan]), np.array([1.0])).difference)
    assert math.isnan(paired(np.array([2.0]), np.array([1.0])).se)


def test_paired_refuses_different_lengths():
    with pytest.raises(ValueError, match="one length"):
        paired(np.zeros(3), np.zeros(4))


def test_holm_by_hand():
    # sorted .01 .02 .03 .04 -> x4 .04, x3 .06, x2 .06 (kept monotone), x1 .06
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_helps_and_keeps_the_order(p):
    adjusted = holm(p)
    assert all(q >= raw for q, raw in zip(adjusted, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
