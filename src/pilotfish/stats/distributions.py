"""Student's t and chi square: probabilities and quantiles of single numbers, by scipy.special.

scipy is imported inside the functions, so that reading and selecting rows never load it.
"""

import math
from functools import lru_cache


def t_cdf(t: float, df: float) -> float:
    """Return P(T <= t) for Student's t with `df` > 0 degrees of freedom (inf: the normal)."""
    upper = 0.5 * t_two_sided(t, df)
    return 1.0 - upper if t > 0 else upper


def t_two_sided(t: float, df: float) -> float:
    """Return P(|T| >= |t|), in [0, 1].

    It keeps its digits far into the tail, where 1 - cdf would lose them.

    Args:
        t: The statistic; may be infinite.
        df: Degrees of freedom, above 0; inf gives the normal distribution.

    Raises:
        ValueError: `df` is not above 0.
    """
    from scipy import special

    _check_df(df)
    lower = special.ndtr(-abs(t)) if math.isinf(df) else special.stdtr(df, -abs(t))
    return float(2.0 * lower)


def t_quantile(p: float, df: float) -> float:
    """Return the t with P(T <= t) = p, for 0 < p < 1 and `df` > 0 (inf: the normal)."""
    _check_inside(p)
    size = t_critical(2.0 * min(p, 1.0 - p), df)
    return size if p > 0.5 else -size


@lru_cache(maxsize=4096)
def t_critical(alpha: float, df: float) -> float:
    """Return the t >= 0 with P(|T| >= t) = alpha: the factor of a (1 - alpha) interval.

    Args:
        alpha: The two-sided tail, in (0, 1].
        df: Degrees of freedom, above 0; inf gives the normal distribution.

    Raises:
        ValueError: `alpha` or `df` is outside its range.
    """
    from scipy import special

    if not 0.0 < alpha <= 1.0:
        raise ValueError(f"alpha must be in (0, 1], not {alpha}")
    _check_df(df)
    if alpha == 1.0:
        return 0.0
    lower = special.ndtri(alpha / 2.0) if math.isinf(df) else special.stdtrit(df, alpha / 2.0)
    return float(-lower)


def chi2_cdf(x: float, df: float) -> float:
    """Return P(X <= x) for chi square with `df` > 0 degrees of freedom; 0 for x <= 0."""
    from scipy import special

    _check_df(df)
    return float(special.chdtr(df, max(0.0, x)))


@lru_cache(maxsize=1024)
def chi2_quantile(p: float, df: float) -> float:
    """Return the x with P(X <= x) = p for chi square, for 0 < p < 1 and `df` > 0."""
    from scipy import special

    _check_inside(p)
    _check_df(df)
    # scipy's chdtri takes the upper tail, 1 - p, which a small p has no digits in.
    return float(2.0 * special.gammaincinv(0.5 * df, p))


def _check_df(df: float) -> None:
    if not df > 0:
        raise ValueError(f"degrees of freedom must be positive, not {df}")


def _check_inside(p: float) -> None:
    if not 0.0 < p < 1.0:
        raise ValueError(f"a quantile needs a probability strictly inside (0, 1), not {p}")
