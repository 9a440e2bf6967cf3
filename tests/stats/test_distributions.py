"""Student's t and chi square against published tables, closed forms and sums by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.stats import t_cdf, t_critical, t_quantile, t_two_sided
from pilotfish.stats.distributions import chi2_cdf, chi2_quantile

# Closed forms: df 1 is tan, df 2 is algebraic; the others from printed tables (6+ digits).
TABLE = [
    (0.975, 1, 12.706204736),
    (0.975, 2, 4.302652730),
    (0.975, 3, 3.182446305),
    (0.975, 4, 2.776445105),
    (0.975, 5, 2.570581836),
    (0.975, 8, 2.306004135),
    (0.975, 10, 2.228138852),
    (0.975, 30, 2.042272456),
    (0.95, 4, 2.131846786),
    (0.995, 4, 4.604094871),
    (0.9995, 2, 31.599054577),
    (0.975, 120, 1.979930405),
    (0.975, math.inf, 1.959963985),
]


@pytest.mark.parametrize(("p", "df", "expected"), TABLE)
def test_quantiles_agree_with_the_published_table(p, df, expected):
    assert t_quantile(p, df) == pytest.approx(expected, abs=1e-6)
    assert t_quantile(1 - p, df) == pytest.approx(-expected, abs=1e-6)


@pytest.mark.parametrize("t", [-40.0, -3.0, -0.2, 0.0, 0.7, 1.0, 5.0, 300.0])
def test_cdf_agrees_with_the_closed_forms_of_one_and_two_degrees(t):
    assert t_cdf(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-12)
    assert t_cdf(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=1e-12)


@given(st.floats(0.001, 0.999), st.floats(0.6, 5000))
def test_quantile_undoes_cdf(p, df):
    assert t_cdf(t_quantile(p, df), df) == pytest.approx(p, abs=1e-9)


def test_the_far_tail_keeps_its_digits():
    # df 2: P(|T| >= t) = 1 - t / sqrt(t^2 + 2), about 1 / t^2
    assert t_two_sided(1e6, 2) == pytest.approx(1e-12, rel=1e-6)
    assert t_two_sided(-1e60, 2) == pytest.approx(1e-120, rel=1e-9)
    assert t_two_sided(30.0, math.inf) == pytest.approx(math.erfc(30 / math.sqrt(2)), rel=1e-9)
    assert t_critical(1e-12, 2) == pytest.approx(1e6, rel=1e-6)


def test_infinite_statistics_have_no_tail():
    for df in (1, 7, math.inf):
        assert t_two_sided(math.inf, df) == t_two_sided(-math.inf, df) == 0.0
        assert (t_cdf(-math.inf, df), t_cdf(math.inf, df)) == (0.0, 1.0)


def test_the_median_is_zero_and_many_degrees_are_normal():
    assert t_quantile(0.5, 3) == 0.0
    assert t_cdf(1.959963985, 1e6) == pytest.approx(0.975, abs=3e-7)
    for df in (1e7, 1e12):
        assert t_two_sided(2.0, df) == pytest.approx(t_two_sided(2.0, math.inf), rel=1e-6)
        assert t_critical(0.05, df) == pytest.approx(t_critical(0.05, math.inf), rel=1e-6)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, math.nan])
def test_a_probability_outside_the_open_interval_is_refused(p):
    with pytest.raises(ValueError, match="strictly inside"):
        t_quantile(p, 3)
    with pytest.raises(ValueError, match="strictly inside"):
        chi2_quantile(p, 3)


@pytest.mark.parametrize("alpha", [0.0, 1.5, math.nan])
def test_an_alpha_outside_its_range_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha must be"):
        t_critical(alpha, 3)


@pytest.mark.parametrize("df", [0.0, -1.0, math.nan])
def test_degrees_of_freedom_must_be_positive(df):
    for call in (t_two_sided, chi2_cdf):
        with pytest.raises(ValueError, match="positive"):
            call(1.0, df)
    for call in (t_critical, chi2_quantile):
        with pytest.raises(ValueError, match="positive"):
            call(0.5, df)


# Published table of the chi square distribution.
@pytest.mark.parametrize(
    ("p", "df", "x"),
    [
        (0.1, 1, 0.0157908),
        (0.1, 2, 0.210721),
        (0.05, 4, 0.710723),
        (0.1, 8, 3.489539),
        (0.95, 10, 18.307038),
        (0.99, 100, 135.806723),
    ],
)
def test_chi_square_agrees_with_the_published_table(p, df, x):
    assert chi2_quantile(p, df) == pytest.approx(x, rel=1e-5)
    assert chi2_cdf(x, df) == pytest.approx(p, rel=1e-5)


def test_chi_square_of_two_degrees_is_exponential_down_to_the_smallest_share():
    for p in (1e-15, 1e-6, 0.3, 0.999):
        assert chi2_quantile(p, 2) == pytest.approx(-2 * math.log1p(-p), rel=1e-9)
    assert chi2_cdf(0.0, 3) == chi2_cdf(-1.0, 3) == 0.0
