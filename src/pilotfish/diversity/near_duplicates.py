"""Near-duplicates of embeddings by cosine, without an n x n matrix: exact, or by cells."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.diversity.cells import Cells, missed
from pilotfish.diversity.results import Duplicates, rank_by_priority
from pilotfish.diversity.vectors import Vectors, gather, products
from pilotfish.errors import UsageError
from pilotfish.records import Floats, Ints, Mask

_BLOCK = 2048  # rows processed together
_ROUNDING = 1e-6  # of a cosine in fp32, so that an exact copy reaches a threshold of 1
_SLACK = 1e-5  # by which a bound must be below the threshold to exclude a pair
_SHORT = (32, 48, 64, 96, 128)  # candidate lengths of the short vectors
_DENSE = 0.01  # share of pairs above which a whole tile is compared in full
_SAMPLE = 2048
_PAIRS = 16_384  # pairs compared at a time
EXACT = 200_000  # rows up to which all pairs are compared by default
_IN_CELL = 1_000  # rows per cell, on average


def near_duplicates(
    vectors: NDArray[Any],
    threshold: float,
    tie: Ints,
    *,
    priority: Floats | None = None,
    eligible: Mask | None = None,
    scratch: Path | None = None,
    exact: bool | None = None,
) -> Duplicates:
    """Find near-duplicates, best first: a row too similar to a kept row is dropped.

    The exact search excludes most pairs by a bound: a rotation splits unit rows into a short head
    x1 and a rest x2, and x·y <= x1·y1 + |x2||y2| (Cauchy-Schwarz). The rotation (principal axes of
    a sample) and the length of the head change the speed only; if no head helps, full rows are
    compared. Time grows with n times the number of kept rows. Memory: 4·n·d bytes (see `gather`),
    8·n·head more, or 4·n·d more without a head or with cells, and 0.2 GB.

    Args:
        vectors: [n, d] embeddings.
        threshold: The cosine, in (0, 1], from which a row is dropped. Its keeper is the most
            similar kept row (of equals the first).
        tie: [n] distinct ranks that decide between equal priorities.
        priority: [n] rows with the highest value, such as their score, come first; nan last.
        eligible: [n] which rows to process; None for all.
        scratch: A folder for temporary files; None keeps the vectors in memory.
        exact: True compares all pairs, up to fp32 rounding (1e-6). False compares rows near the
            same pivots only (see `cells`); `miss` is then the estimated share of duplicates that
            were kept. None is exact up to 200,000 usable rows.

    Raises:
        UsageError: The threshold is not in (0, 1], or shapes disagree.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold is a cosine above 0 and at most 1, got {threshold}")
    rows = gather(vectors, rank_by_priority(tie, priority), eligible=eligible, scratch=scratch)
    bar = threshold - _ROUNDING
    search: _Search | _CellSearch
    if len(rows) <= EXACT if exact is None else exact:
        search = _Search(rows.values, bar, _shortened(rows.values, threshold))
    else:
        search = _CellSearch(rows.values, bar)
    for start in range(0, len(rows), _BLOCK):
        search.process(start, min(len(rows), start + _BLOCK))
    keeper = np.where(search.keeper < 0, -1, rows.index[search.keeper])
    return Duplicates(
        keeper=rows.spread(keeper, -1),
        similarity=rows.spread(search.cosine, np.nan),
        reason=rows.reason,
        miss=search.miss(),
    )


def _shortened(values: Vectors, threshold: float) -> Vectors:
    """[m, head + 1] rows whose products bound those of `values` from above, or `values` itself."""
    if values.shape[1] <= 2 * min(_SHORT) or len(values) < 2 * _SAMPLE:
        return values
    sample = values[np.linspace(0, len(values) - 1, 2 * _SAMPLE).astype(np.int64)]
    fitted, sample = sample[::2], sample[1::2]  # axes fit the rows they were computed from too well
    moment = fitted.T.astype(np.float64) @ fitted
    axes = np.linalg.eigh(moment)[1][:, ::-1].astype(np.float32)  # [d, d], the greatest first
    costs = {0: float(values.shape[1])}  # multiplications per pair for each head; 0: no head
    for head in _SHORT:
        short = _heads(sample, axes[:, :head])
        undecided = _share_above(short, threshold - _SLACK)
        full = 150 * undecided if undecided < _DENSE else 1.0  # single pairs cost more than a tile
        costs[head] = head + 1 + full * values.shape[1]
    best = min(costs, key=lambda head: costs[head])
    return _heads(values, axes[:, :best]) if best else values


def _share_above(short: Vectors, bar: float) -> float:
    half = len(short) // 2
    return float(((short[:half] @ short[half:].T) >= bar).mean())


def _heads(values: Vectors, axes: Vectors) -> Vectors:
    """[m, head + 1] coordinates along `axes` [d, head], and the length of the rest."""
    out = np.empty((len(values), axes.shape[1] + 1), dtype=np.float32)
    for start, stop, tile in products(values, axes.T):
        out[start:stop, :-1] = tile
        rest = 1.0 - np.einsum("ij,ij->i", tile, tile)
        out[start:stop, -1] = np.sqrt(np.maximum(rest, 0.0))
    return out


@dataclass(eq=False)
class _Decisions:
    """The decisions about unit rows [m, d], in the order in which they are processed."""

    values: Vectors
    bar: float

    def __post_init__(self) -> None:
        self.keeper = np.full(len(self.values), -1)  # [m]
        self.cosine = np.full(len(self.values), np.nan)  # [m] to the keeper

    def fresh(self, start: int, stop: int) -> Ints:
        """Return the rows of a block that were kept."""
        return start + np.flatnonzero(self.keeper[start:stop] < 0)

    def _offer(self, rows: Ints, keepers: Ints, cosine: Floats) -> None:
        """Give each row the best of these keepers, unless it has a better one."""
        alike = cosine >= self.bar
        rows, keepers, cosine = rows[alike], keepers[alike], cosine[alike]
        order = np.lexsort((keepers, -cosine, rows))
        best = order[np.flatnonzero(np.diff(rows[order], prepend=-1))]
        row = rows[best]
        new, old = cosine[best], self.cosine[row]  # nan: no keeper yet
        nearer = ~(old >= new) | ((old == new) & (keepers[best] < self.keeper[row]))
        self.keeper[row[nearer]] = keepers[best[nearer]]
        self.cosine[row[nearer]] = cosine[best[nearer]]

    def _among_themselves(self, start: int, stop: int) -> None:
        block = self.values[start:stop]
        like = np.tril(block @ block.T, -1)  # [b, b] a row and the earlier rows of the block
        for row in np.flatnonzero(like.max(axis=1, initial=-1.0) >= self.bar):
            before = np.where(self.keeper[start : start + row] < 0, like[row, :row], -1.0)
            best = int(before.argmax()) if row else 0
            if row and before[best] >= self.bar:
                self._offer(
                    np.array([start + row]),
                    np.array([start + best]),
                    before[best : best + 1].astype(np.float64),
                )


@dataclass(eq=False)
class _Search(_Decisions):
    """The exact search; products of `short` [m, s] are upper bounds."""

    short: Vectors

    def __post_init__(self) -> None:
        super().__post_init__()
        self.kept = np.empty(len(self.values), dtype=np.int64)  # rows kept so far, `count` of them
        self.kept_short = np.empty_like(self.short)  # [m, s], contiguous
        self.count = 0

    def process(self, start: int, stop: int) -> None:
        """Decide rows start..stop: compare them with the kept rows, then with each other."""
        for first, last, bound in products(self.kept_short[: self.count], self.short[start:stop]):
            self._compare(first, last, start, bound)
        self._among_themselves(start, stop)
        new = self.fresh(start, stop)
        self.kept[self.count : self.count + len(new)] = new
        self.kept_short[self.count : self.count + len(new)] = self.short[new]
        self.count += len(new)

    def _compare(self, first: int, last: int, start: int, bound: Vectors) -> None:
        """Compare kept rows first..last with the block; bound: [last - first, block]."""
        kept = self.kept[first:last]
        at, row = np.divmod(np.flatnonzero(bound >= self.bar - _SLACK), bound.shape[1])
        if len(at) > _DENSE * bound.size:
            block = self.values[start : start + bound.shape[1]]
            exact = bound if self.short is self.values else self.values[kept] @ block.T
            at = exact.argmax(axis=0)
            row = np.arange(bound.shape[1])
            self._offer(start + row, kept[at], exact[at, row].astype(np.float64))
            return
        for pairs in range(0, len(at), _PAIRS):
            some = slice(pairs, pairs + _PAIRS)
            left, right = kept[at[some]], start + row[some]
            cosine = np.einsum("ij,ij->i", self.values[left], self.values[right])
            self._offer(right, left, cosine.astype(np.float64))

    def miss(self) -> float:
        """No duplicate is missed."""
        return 0.0


class _CellSearch(_Decisions):
    """The search by cells: pairs that share a cell, and all pairs inside a block."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.cells = Cells.of(self.values, max(1, len(self.values) // _IN_CELL))

    def process(self, start: int, stop: int) -> None:
        """Decide rows start..stop, as `_Search.process`."""
        self._offer(*self.cells.best(start, self.values[start:stop]))
        self._among_themselves(start, stop)
        new = self.fresh(start, stop)
        self.cells.add(new, self.values[new])

    def miss(self) -> float:
        """The share of duplicates that were kept, estimated from a sample."""
        return missed(self.values, self.keeper, self.bar)
