"""Area under a curve of scores over log rows: one number for a whole sweep, with its interval."""

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
    """Area under the means of `curve` over log `rows`, divided by the range of log rows.

    curve[j] [seeds, items]: the arm trained on rows[j] rows (ascending, at least two), all on the
    same items. By trapezoids, so it is a weighted mean of the arms, in units of the metric, and
    its interval is that of `stats.contrast`. With `against`, a second curve over the same rows:
    the area between them, curve - against. Which way is better is the metric's own matter.
    ValueError on fewer than two row counts, not ascending, or arms that do not fit.
    """
    weights = trapezoids(rows)
    arms, signed = [*curve, *(against or ())], [*weights, *(-weights if against else ())]
    if len(arms) != len(signed):
        raise ValueError(f"{len(rows)} row counts need as many arms on each curve")
    return contrast(arms, [float(weight) for weight in signed], alpha=alpha)


def trapezoids(rows: Sequence[int]) -> Floats:
    """Weights [m], adding up to 1, with which values at `rows` [m] make the normalised area."""
    if len(rows) < 2 or rows[0] < 1 or any(a >= b for a, b in pairwise(rows)):
        raise ValueError(f"an area needs two or more ascending row counts, not {list(rows)}")
    steps = np.diff(np.log(np.asarray(rows, dtype=np.float64)))
    weights: Floats = 0.5 * (np.append(steps, 0.0) + np.insert(steps, 0, 0.0)) / steps.sum()
    return weights
