"""Quantiles of chi square in plain Python: how far off a variance of few seeds may be."""

import math
from functools import lru_cache

_ENOUGH = 1e-16


def chi2_cdf(x: float, df: float) -> float:
    """P(X <= x) for chi square with `df` > 0 degrees of freedom (Abramowitz & Stegun 6.5.29)."""
    if not df > 0:
        raise ValueError(f"degrees of freedom must be positive, not {df}")
    if x <= 0.0:
        return 0.0
    a, half = 0.5 * df, 0.5 * x
    term, total, n = 1.0, 1.0, 0
    while term > _ENOUGH * total:
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
