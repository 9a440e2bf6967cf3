"""k-centre by farthest first: each pick is the row farthest from everything picked so far.

The radius it leaves is at most twice the least possible one (Gonzalez 1985, Theor. Comput. Sci. 38;
named core-set selection in Sener & Savarese 2018, arXiv:1708.00489). It seeks outliers, so a noisy
pool wants a quality filter first.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.diversity.result import DiverseRows
from pilotfish.diversity.vectors import Metric, Rows, Vectors, gather, products, squares
from pilotfish.errors import UsageError
from pilotfish.records import Floats, Ints, Mask

_POOL = 1024  # farthest rows followed one by one between two passes over all rows
_ROUNDING = 2.0**-20  # of the squared lengths: a shorter squared distance counts as none


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
    """Pick k rows of `vectors` [n, d], exactly as farthest first does; equal distances go by `tie`.

    start: the row picked first; a seeded draw where None. `gain` is the euclidean distance to the
    rows picked before (non-increasing; nan for the first), `closeness` the one to `nearest`. Under
    the cosine metric rows are scaled to length 1 first, so both are sqrt(2 - 2 cos), in [0, 2].
    Distances are fp32; below 1e-3 of a row's length they count as 0.

    Exact though it does not compare every row at every step: between two passes over all rows only
    the farthest few are kept up to date, and one of them is taken only while it is farther than any
    other row was at the last pass. Distances shrink only, so no other row can be farther. A pass
    costs one matrix product. Memory: 4·n·d bytes (see `gather`) and 40 bytes a row.
    Raises UsageError where k rows cannot be had or `start` is not usable.
    """
    rows = gather(vectors, tie, eligible=eligible, metric=metric, scratch=scratch)
    rows.require(k)
    search = _Search(rows.values)
    search.follow(_first(rows, start, seed))
    while len(search.order) < k:
        search.pass_over_all()
        search.take_while_sure(k)
    search.pass_over_all()
    return search.answer(rows)


def _first(rows: Rows, start: int | None, seed: int) -> int:
    if start is None:
        return int(np.random.default_rng(seed).integers(len(rows)))
    found = np.flatnonzero(rows.index == start)
    if not len(found):
        raise UsageError(f"start is row {start}, which is not among the usable rows")
    return int(found[0])


class _Search:
    """Farthest first over unit or plain rows [m, d] in tie order."""

    def __init__(self, values: Vectors) -> None:
        m = len(values)
        self.values = values
        self.square = squares(values)  # [m]
        self.distance = np.full(m, np.inf)  # [m] squared, to the nearest pick of the last pass
        self.nearest = np.full(m, -1)  # [m] pick number
        self.order: list[int] = []
        self.gain: list[float] = []
        self.before: list[int] = []  # pick number nearest to each pick when it was made
        self.passed = 0  # picks that the last pass knew

    def follow(self, row: int, gain: float = np.nan, nearest: int = -1) -> None:
        self.order.append(row)
        self.gain.append(gain)
        self.before.append(nearest)

    def pass_over_all(self) -> None:
        """Bring every row's distance up to date with the picks made since the last pass."""
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
        """Pick among the farthest rows until one outside them might be farther, or k are picked."""
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
            self.follow(row, float(np.sqrt(distance[far])), int(nearest[far]))
            found = _squared(square, square[far], values @ values[far])
            nearest[found < distance] = len(self.order) - 1
            np.minimum(distance, found, out=distance)
            distance[far] = -1.0

    def answer(self, rows: Rows) -> DiverseRows:
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
    """[b] squared distances from squared lengths and products; noise of fp32 is 0."""
    total = square + other
    found = total - 2.0 * dot
    return np.where(found < _ROUNDING * total, 0.0, found)
