"""The seed-level test and equivalence as p values: by hand, and never against the interval."""

import numpy as np
import pytest

from pilotfish.stats import difference, inside, seed_test, t_cdf, tost
from tests.stats.simulate import arms

A = np.repeat([[0.4], [0.6], [0.8]], 10, axis=1)
B = np.repeat([[0.1], [0.2], [0.3]], 10, axis=1)


def test_seed_test_by_hand():
    found = seed_test(A, B)
    se = (0.025 * 2 / 3) ** 0.5  # pooled variance of the seed means (.04 + .01) / 2
    assert (found.difference, found.df) == (pytest.approx(0.4), 4)
    assert found.p == pytest.approx(2 * (1 - t_cdf(0.4 / se, 4)))
    assert found.high - found.low == pytest.approx(2 * 2.776445 * se)


def test_against_an_arm_that_no_seed_changes_it_is_the_one_sample_test():
    found = seed_test(A, np.full((1, 10), 0.5), fixed=(False, True))
    assert found.df == 2
    assert found.p == pytest.approx(2 * (1 - t_cdf(0.1 / (0.2 / 3**0.5), 2)))


def test_what_the_verdict_decides_the_seeds_alone_decide_too():
    rng, only_seeds = np.random.default_rng(4), 0
    for _ in range(60):
        a, b = arms(rng, seeds=(3, 4), items=100, spread=0.005, gap=0.1, interaction=0.4)
        alone, both = seed_test(a, b), difference(a, b)
        assert both.low <= alone.low + 1e-12 and alone.high <= both.high + 1e-12
        assert alone.p <= both.p + 1e-9
        only_seeds += alone.p < 0.05 <= both.p
    assert only_seeds  # items matter in some


def test_orders_are_free_and_swapping_flips_the_sign():
    rng = np.random.default_rng(5)
    a, b = arms(rng, seeds=(3, 5), items=50, spread=0.05, gap=0.1)
    found, other = seed_test(a, b), seed_test(b[::-1], a[:, ::-1][:, ::-1])
    assert other.difference == pytest.approx(-found.difference)
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low))
    assert other.p == pytest.approx(found.p)


def test_no_p_where_the_spread_of_seeds_was_never_seen():
    assert seed_test(A, B[:1]).p is None
    assert seed_test(A[:, :0], B[:, :0]).difference is None
    level = seed_test(np.eye(3), np.eye(3)[::-1])  # every seed has one right of three
    assert level.difference == 0.0 and level.p is None and level.low is None


def test_tost_and_the_interval_never_disagree():
    rng, claims = np.random.default_rng(6), 0
    for _ in range(40):
        found = difference(*arms(rng, seeds=(5, 5), items=800, spread=0.01))
        assert (tost(found, 0.05) < 0.05) == inside(found, 0.05)
        claims += inside(found, 0.05)
    assert 0 < claims < 40


def test_tost_outside_the_margin_and_without_an_interval():
    assert tost(difference(A, B), 0.3) == 1.0
    assert tost(difference(A, B[:1]), 0.3) is None
    with pytest.raises(ValueError, match="above 0"):
        tost(difference(A, B), 0.0)


def test_tost_of_arms_that_never_differ_rests_on_the_number_of_items():
    for n, claim in ((182, False), (183, True)):
        flat = difference(np.ones((3, n)), np.ones((3, n)))
        assert (tost(flat, 0.02) < 0.05) == inside(flat, 0.02) == claim
