"""Area under a curve of scores over log rows: one number for a whole sweep, with an interval."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.interval import Estimate, contrast

Floats = NDArray[np.float64]


def area(
    rows: Sequence[int],
    curve: Sequence[Floats],
    *,
    against: Sequence[Floats] | None = None,
    alpha: float = 0.05,
) -> Estimate:
    """Estimate the area under `curve` over log `rows`, divided by the range of log rows.

    The area is taken by trapezoids. It is therefore a weighted mean of the arms, in units of the
    metric, and its interval is that of `stats.contrast`.

    Args:
        rows: Row counts, ascending, at least two.
        curve: One matrix [seeds, items] per row count, all on the same items.
        against: A second curve over the same rows; the area between the two is then estimated,
            curve - against.
        alpha: The interval has confidence 1 - alpha.

    Raises:
        ValueError: There are fewer than two row counts, they do not ascend, or the arms do not fit.
    """
    weights = trapezoids(rows)
    arms, signed = [*curve, *(against or ())], [*weights, *(-weights if against else ())]
    if len(arms) != len(signed):
        raise ValueError(f"{len(rows)} row counts need as many arms on each curve")
    return contrast(arms, [float(weight) for weight in signed], alpha=alpha)


def trapezoids(rows: Sequence[int]) -> Floats:
    """Return the trapezoid weights [m] of the row counts `rows` [m]; they add up to 1."""
    if len(rows) < 2 or rows[0] < 1 or any(a >= b for a, b in pairwise(rows)):
        raise ValueError(f"an area needs two or more ascending row counts, not {list(rows)}")
    steps = np.diff(np.log(np.asarray(rows, dtype=np.float64)))
    weights: Floats = 0.5 * (np.append(steps, 0.0) + np.insert(steps, 0, 0.0)) / steps.sum()
    return weights
