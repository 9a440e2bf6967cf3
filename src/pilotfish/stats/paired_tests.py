"""Exact McNemar, Holm's correction, and the paired difference of two models of one seed."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


def mcnemar(b: int, c: int) -> float:
    """Return the two-sided exact McNemar p value, from binomial(b + c, 1/2).

    It is symmetric, and 1 where b = c. It holds for one pair of seeds only, because it does not
    count the spread over seeds.

    Args:
        b: Items that only the first model answers correctly.
        c: Items that only the second model answers correctly.

    Raises:
        ValueError: A count is below 0.
    """
    from scipy import special

    if b < 0 or c < 0:
        raise ValueError(f"counts cannot be negative: b={b}, c={c}")
    if b == c:
        return 1.0
    few, many = min(b, c), max(b, c)
    # P(X <= few) = I_1/2(many, few + 1), which keeps more digits than scipy's bdtr
    return min(1.0, float(2.0 * special.betainc(many, few + 1, 0.5)))


class Paired(NamedTuple):
    """A paired difference, its standard error, and the number of items behind it."""

    difference: float
    se: float
    items: int


def paired(a: NDArray[np.float64], b: NDArray[np.float64]) -> Paired:
    """Return the mean of a - b over items, with SE = sd(a - b) / sqrt(n).

    Args:
        a: Values of the first model [n]; items with a nan in either are left out.
        b: Values of the second model [n], on the same items.

    Returns:
        The difference, nan without a usable item; its SE, nan with fewer than two; the items used.

    Raises:
        ValueError: The shapes differ or are no vectors.
    """
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired values must be two vectors of one length: {a.shape}, {b.shape}")
    gap = (a - b)[np.isfinite(a) & np.isfinite(b)]
    n = gap.size
    value = float(gap.mean()) if n else math.nan
    return Paired(value, float(gap.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan, n)


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p values, in the order given (Holm 1979).

    Each lies in [0, 1] and is never below its unadjusted p value.
    """
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted = [0.0] * len(p)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = running
    return adjusted
