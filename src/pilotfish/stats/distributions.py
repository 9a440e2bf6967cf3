"""Student's t distribution in plain Python, so that the core needs no scipy.

The distribution function is the regularised incomplete beta function I_x(a, b), evaluated by its
continued fraction (Abramowitz & Stegun 26.5.8) with the modified Lentz recurrence.
"""

import math
from functools import lru_cache

_TINY = 1e-300  # keeps a Lentz denominator off zero
_ENOUGH = 1e-15  # relative change at which the fraction has settled


def t_cdf(t: float, df: float) -> float:
    """P(T <= t) for Student's t with `df` > 0 degrees of freedom (inf: the normal)."""
    upper = 0.5 * t_two_sided(t, df)
    return 1.0 - upper if t > 0 else upper


def t_two_sided(t: float, df: float) -> float:
    """P(|T| >= |t|), in [0, 1]; exact far into the tail, where 1 - cdf would lose its digits."""
    if not df > 0:
        raise ValueError(f"degrees of freedom must be positive, not {df}")
    if math.isinf(df):
        return math.erfc(abs(t) / math.sqrt(2.0))
    if math.isinf(t):
        return 0.0
    return incomplete_beta(df / (df + t * t), 0.5 * df, 0.5)


def t_quantile(p: float, df: float) -> float:
    """The t with P(T <= t) = p, for 0 < p < 1; within 1e-9 relative of the exact value."""
    if not 0.0 < p < 1.0:
        raise ValueError(f"a quantile needs a probability strictly inside (0, 1), not {p}")
    size = t_critical(2.0 * min(p, 1.0 - p), df)
    return size if p > 0.5 else -size


@lru_cache(maxsize=4096)
def t_critical(alpha: float, df: float) -> float:
    """The t >= 0 with P(|T| >= t) = alpha, for 0 < alpha <= 1: the factor of an interval."""
    if not 0.0 < alpha <= 1.0:
        raise ValueError(f"alpha must be in (0, 1], not {alpha}")
    if alpha == 1.0:
        return 0.0
    high = 1.0
    while t_two_sided(high, df) > alpha:
        high *= 2.0
    return _bisect(alpha, df, high)


def _bisect(alpha: float, df: float, high: float) -> float:
    low = 0.0
    while high - low > 1e-10 * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if t_two_sided(middle, df) > alpha else (low, middle)
    return 0.5 * (low + high)


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta I_x(a, b), x in [0, 1], a and b > 0; in [0, 1]."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    # The fraction converges fast on this side of the mean; beyond it, use the symmetry.
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - incomplete_beta(1.0 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front += a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction 1 / (1 + d_1 / (1 + d_2 / ...)) of A&S 26.5.8."""
    c, d = 1.0, 1.0 / _nonzero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for term in (even, odd):
            d = 1.0 / _nonzero(1.0 + term * d)
            c = _nonzero(1.0 + term / c)
            value *= c * d
        if abs(c * d - 1.0) < _ENOUGH:
            return value
    raise ArithmeticError(f"incomplete beta did not settle at x={x}, a={a}, b={b}")


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


_SERIES_TOLERANCE = 1e-16


def chi2_cdf(x: float, df: float) -> float:
    """P(X <= x) for chi square with `df` > 0 degrees of freedom (Abramowitz & Stegun 6.5.29)."""
    if not df > 0:
        raise ValueError(f"degrees of freedom must be positive, not {df}")
    if x <= 0.0:
        return 0.0
    a, half = 0.5 * df, 0.5 * x
    term, total, n = 1.0, 1.0, 0
    while term > _SERIES_TOLERANCE * total:
        n += 1
        term *= half / (a + n)
        total += term
    return min(1.0, math.exp(a * math.log(half) - half - math.lgamma(a + 1.0)) * total)


@lru_cache(maxsize=1024)
def chi2_quantile(p: float, df: float) -> float:
    """The x with P(X <= x) = p, for 0 < p < 1; within 1e-9 relative."""
    if not 0.0 < p < 1.0:
        raise ValueError(f"a quantile needs a probability strictly inside (0, 1), not {p}")
    low, high = 0.0, 1.0
    while chi2_cdf(high, df) < p:
        high *= 2.0
    while high - low > 1e-10 * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if chi2_cdf(middle, df) < p else (low, middle)
    return 0.5 * (low + high)
