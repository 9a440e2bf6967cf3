"""k-centre by farthest first: each pick is the row farthest from all earlier picks.

The radius is at most twice the smallest possible one (Gonzalez 1985, Theor. Comput. Sci. 38; known
as core-set selection from Sener & Savarese 2018, arXiv:1708.00489). It prefers outliers, so a noisy
pool needs a quality filter first.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.diversity.results import DiverseRows
from pilotfish.diversity.vectors import Metric, Rows, Vectors, gather, products, squares
from pilotfish.errors import UsageError
from pilotfish.records import Floats, Ints, Mask

_POOL = 1024  # farthest rows that are kept up to date between two passes over all rows
_ROUNDING = 2.0**-20  # share of the squared lengths below which a squared distance counts as 0


def k_centre(
    vectors: NDArray[Any],
    k: int,
    tie: Ints,
    *,
    eligible: Mask | None = None,
    metric: Metric = "cosine",
    start: int | None = None,
    seed: int = 0,
    scratch: Path | None = None,
) -> DiverseRows:
    """Select k rows by farthest first; equal distances go by `tie`.

    The result is exact, although not every row is compared at every step: between two passes over
    all rows only the farthest few are kept up to date, and one of them is picked only while it is
    farther than every other row was at the last pass. Distances only shrink, so no other row can be
    farther. A pass costs one matrix product. Distances are fp32; below 1e-3 of a row's length they
    count as 0. Memory: 4·n·d bytes (see `gather`) and 40 bytes per row.

    Args:
        vectors: [n, d] embeddings.
        k: How many rows to select.
        tie: [n] distinct ranks that decide between equal distances.
        eligible: [n] which rows may be used; None for all.
        metric: "cosine" scales rows to length 1 first, so that distances are sqrt(2 - 2 cos), in
            [0, 2].
        start: The row that is picked first; None draws one.
        seed: The seed of that draw.
        scratch: A folder for temporary files; None keeps the vectors in memory.

    Returns:
        `gain` is the euclidean distance to the rows picked before (non-increasing, nan for the
        first), `closeness` the distance to `nearest`.

    Raises:
        UsageError: There are fewer than k usable rows, or `start` is not usable.
    """
    rows = gather(vectors, tie, eligible=eligible, metric=metric, scratch=scratch)
    rows.require(k)
    if start is None:
        first = int(np.random.default_rng(seed).integers(len(rows)))
    else:
        found = np.flatnonzero(rows.index == start)
        if not len(found):
            raise UsageError(f"start is row {start}, which is not among the usable rows")
        first = int(found[0])
    search = _Search(rows.values)
    search.pick(first)
    while len(search.order) < k:
        search.pass_over_all()
        search.take_while_sure(k)
    search.pass_over_all()
    return search.result(rows)


class _Search:
    """The state of farthest first over rows [m, d] in tie order."""

    def __init__(self, values: Vectors) -> None:
        m = len(values)
        self.values = values
        self.square = squares(values)  # [m]
        self.distance = np.full(m, np.inf)  # [m] squared, to the nearest pick of the last pass
        self.nearest = np.full(m, -1)  # [m] pick number
        self.order: list[int] = []
        self.gain: list[float] = []
        self.before: list[int] = []  # pick number nearest to each pick when it was made
        self.passed = 0  # picks that the last pass included

    def pick(self, row: int, gain: float = np.nan, nearest: int = -1) -> None:
        self.order.append(row)
        self.gain.append(gain)
        self.before.append(nearest)

    def pass_over_all(self) -> None:
        """Update the distance of every row with the picks since the last pass."""
        new = np.array(self.order[self.passed :])
        centres, half = self.values[new], (self.square[new] / 2).astype(np.float32)
        for start, stop, score in products(self.values, centres):
            here = slice(start, stop)
            score -= half
            best = score.argmax(axis=1)  # the nearest; the first picked of equals
            dot = score[np.arange(stop - start), best] + half[best]
            near = _squared(self.square[here], self.square[new[best]], dot)
            closer = near < self.distance[here]
            self.distance[here][closer] = near[closer]
            self.nearest[here][closer] = best[closer] + self.passed
        self.passed = len(self.order)

    def take_while_sure(self, k: int) -> None:
        """Pick among the farthest rows until another row may be farther, or k are picked."""
        free = np.ones(len(self.values), dtype=bool)
        free[self.order] = False
        pool, bar = _farthest(self.distance, np.flatnonzero(free))  # in tie order
        values, square = self.values[pool], self.square[pool]
        distance, nearest = self.distance[pool], self.nearest[pool]
        while len(self.order) < k:
            far = int(distance.argmax())  # the first of equals: the smallest tie
            if (distance[far], -pool[far]) < bar:
                return
            row = int(pool[far])
            self.pick(row, float(np.sqrt(distance[far])), int(nearest[far]))
            found = _squared(square, square[far], values @ values[far])
            nearest[found < distance] = len(self.order) - 1
            np.minimum(distance, found, out=distance)
            distance[far] = -1.0

    def result(self, rows: Rows) -> DiverseRows:
        order = np.array(self.order)
        nearest, distance = self.nearest.copy(), np.sqrt(self.distance)
        nearest[order], distance[order] = self.before, self.gain
        kept = np.append(rows.index[order], -1)  # so that -1 stays -1
        return DiverseRows(
            order=rows.index[order],
            gain=np.array(self.gain),
            nearest=rows.spread(kept[nearest], -1),
            closeness=rows.spread(distance, np.nan),
            reason=rows.reason,
        )


def _farthest(distance: Floats, free: Ints) -> tuple[Ints, tuple[float, float]]:
    """The `_POOL` farthest free rows in tie order, and (distance, -tie) of the last of them."""
    if len(free) <= _POOL:
        return free, (-1.0, 0.0)
    last = np.partition(distance[free], len(free) - _POOL)[len(free) - _POOL]
    above = free[distance[free] > last]
    equal = free[distance[free] == last][: _POOL - len(above)]
    pool = np.sort(np.concatenate([above, equal]))
    return pool, (float(last), -float(equal[-1]))


def _squared(square: Floats, other: Floats, dot: NDArray[np.float32]) -> Floats:
    """[b] squared distances from squared lengths and products; rounding errors become 0."""
    total = square + other
    found = total - 2.0 * dot
    return np.where(found < _ROUNDING * total, 0.0, found)
