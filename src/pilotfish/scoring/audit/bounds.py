"""Exact bounds on a share or a count, from a random sample of the rows."""


def upper_rate(found: int, drawn: int, confidence: float = 0.95) -> float:
    """Return the one-sided upper bound on a share, in [0, 1] (Clopper and Pearson 1934).

    The bound is the share at which `found` or fewer hits have probability 1 - confidence: 0 of
    3,000 at 95% gives 0.000998. Drawing without replacement, as here, makes it conservative.

    Args:
        found: Hits in the sample.
        drawn: Size of the sample; the bound is 1 where nothing was drawn.
        confidence: Strictly inside (0, 1).

    Raises:
        ValueError: The counts or the confidence are outside their range.
    """
    from scipy import special

    _check(found, drawn, confidence)
    if found == drawn:
        return 1.0
    # P(X <= found | p) = 1 - I_p(found + 1, drawn - found)
    return float(special.betaincinv(found + 1, drawn - found, confidence))


def lower_rate(found: int, drawn: int, confidence: float = 0.95) -> float:
    """Return the one-sided lower bound on a share: `upper_rate` of the misses, mirrored."""
    return 1.0 - upper_rate(drawn - found, drawn, confidence)


def most_marked(found: int, drawn: int, n: int, confidence: float = 0.95) -> int:
    """Return the largest number of marked rows that a pool may hold, given a random sample.

    The exact hypergeometric bound for a draw without replacement: the largest count for which
    `found` or fewer marked rows in the sample have a probability above 1 - confidence.

    Args:
        found: Marked rows in the sample.
        drawn: Rows in the sample; with all `n` drawn the answer is `found`.
        n: Rows in the pool.
        confidence: Strictly inside (0, 1).

    Raises:
        ValueError: The counts or the confidence are outside their range.
    """
    _check(found, drawn, confidence)
    low, high = found, n - (drawn - found)  # low is always possible
    while low < high:
        middle = (low + high + 1) // 2
        possible = hypergeometric(found, n, middle, drawn) > 1.0 - confidence
        low, high = (middle, high) if possible else (low, middle - 1)
    return low


def hypergeometric(x: int, n: int, marked: int, drawn: int) -> float:
    """Return P(X <= x): x or fewer of `marked` rows among `drawn` of n, without replacement."""
    from scipy import stats

    if x >= min(marked, drawn):  # certain, also for an empty pool, which scipy refuses
        return 1.0
    return float(stats.hypergeom.cdf(x, n, marked, drawn))


def most_drawn(n: int, marked: int, drawn: int, confidence: float) -> int:
    """Return the smallest j with P(more than j of `marked` among `drawn` of n) <= 1 - confidence.

    Rows are drawn without replacement.
    """
    low, high = 0, min(marked, drawn)
    while low < high:
        middle = (low + high) // 2
        enough = hypergeometric(middle, n, marked, drawn) >= confidence
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


def _check(found: int, drawn: int, confidence: float) -> None:
    if not 0 <= found <= drawn:
        raise ValueError(f"cannot have found {found} among {drawn}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"a confidence lies strictly inside (0, 1), not {confidence}")
