"""Exact bounds on a share or a count that a random sample stands for; plain Python."""

import math
from collections.abc import Callable

from pilotfish.stats.distributions import incomplete_beta


def upper_rate(found: int, drawn: int, confidence: float = 0.95) -> float:
    """One-sided upper bound on a share of which `found` of `drawn` were seen. In [0, 1].

    Clopper and Pearson 1934: the share p at which `found` or fewer have probability
    1 - confidence. 0 of 3,000 at 95% gives 0.000998. Nothing drawn: 1. Drawing without
    replacement, as here, makes it conservative.
    """
    _check(found, drawn, confidence)
    if found == drawn:
        return 1.0
    # P(X <= x | p) = I_{1-p}(m - x, x + 1), which falls in p
    return _crossing(
        lambda p: incomplete_beta(1.0 - p, drawn - found, found + 1) > 1.0 - confidence
    )


def lower_rate(found: int, drawn: int, confidence: float = 0.95) -> float:
    """One-sided lower bound on a share: the mirror of `upper_rate`, 0 where nothing was found."""
    return 1.0 - upper_rate(drawn - found, drawn, confidence)


def most_marked(found: int, drawn: int, n: int, confidence: float = 0.95) -> int:
    """The most marked rows a pool of n may hold, when `found` of `drawn` random ones are marked.

    The exact (hypergeometric) bound for a draw without replacement: the largest count whose chance
    of showing `found` or fewer still exceeds 1 - confidence. `found` where all were drawn.
    """
    _check(found, drawn, confidence)
    low, high = found, n - (drawn - found)  # low is always possible
    while low < high:
        middle = (low + high + 1) // 2
        possible = hypergeometric(found, n, middle, drawn) > 1.0 - confidence
        low, high = (middle, high) if possible else (low, middle - 1)
    return low


def hypergeometric(x: int, n: int, marked: int, drawn: int) -> float:
    """P(X <= x): x or fewer of `marked` rows among `drawn` of n, without replacement."""
    first = max(0, drawn + marked - n)
    last = min(x, marked, drawn)
    if last < first:
        return 0.0
    logs = [
        _log_ways(marked, i) + _log_ways(n - marked, drawn - i) - _log_ways(n, drawn)
        for i in range(first, last + 1)
    ]
    return min(1.0, math.fsum(map(math.exp, logs)))


def most_drawn(n: int, marked: int, drawn: int, confidence: float) -> int:
    """The smallest j with P(more than j of `marked` among `drawn` of n) <= 1 - confidence."""
    low, high = 0, min(marked, drawn)
    while low < high:
        middle = (low + high) // 2
        enough = hypergeometric(middle, n, marked, drawn) >= confidence
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


def _log_ways(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _crossing(holds: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high


def _check(found: int, drawn: int, confidence: float) -> None:
    if not 0 <= found <= drawn:
        raise ValueError(f"cannot have found {found} among {drawn}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"a confidence lies strictly inside (0, 1), not {confidence}")
