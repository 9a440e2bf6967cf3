"""Which kept row each row is nearest to, whatever picked the kept ones."""

import numpy as np

from pilotfish.diversity.vectors import Vectors, products
from pilotfish.records import Floats, Ints


def nearest_pick(values: Vectors, order: Ints) -> tuple[Ints, Floats]:
    """[m] the pick number each unit row is most similar to, and [m] that cosine.

    order: [k] places of the kept rows in `values` [m, d], first picked first. A kept row is set
    against those picked before it: -1 and nan for the first. Of equals the first picked wins.
    """
    kept = values[order]
    turn = np.full(len(values), len(order))  # [m] pick number, k where not kept
    turn[order] = np.arange(len(order))
    nearest = np.empty(len(values), dtype=np.int64)
    cosine = np.empty(len(values))
    for start, stop, found in products(values, kept):
        own = np.flatnonzero(turn[start:stop] < len(order))
        for row in own:
            found[row, turn[start + row] :] = -np.inf
        best = found.argmax(axis=1)
        nearest[start:stop] = best
        cosine[start:stop] = found[np.arange(stop - start), best]
    nearest[order[:1]], cosine[order[:1]] = -1, np.nan
    return nearest, cosine
