"""Exact cuts of a ranking that nobody sorts: histograms of shards add up, a second pass finishes.

A score becomes an unsigned integer whose order is the wanted one; its top bits are a bin. Counts
per bin are integers, so histograms of any shards add up to that of the whole, in any order. The
sum says in which bin a cut falls; only rows of that bin and of better ones can be before the cut,
and sorting those alone gives what sorting everything would.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.records import Floats, Ints

Keys = NDArray[np.uint64]
Wanted = Literal["high", "low"]

# Sign, exponent and 8 bits after the point: 256 bins between a score and its double, of which only
# those that hold a row take memory. Their sum stays small, and so do the rows of the bin of a cut.
TOP_BITS = 20
_SIGN = np.uint64(1 << 63)


def keys_of(scores: Floats, direction: Wanted) -> Keys:
    """[n] scores -> [n] integers, smallest for the best score; equal scores give equal ones.

    The order is that of the numbers, infinities and denormals included; -0.0 is 0.0. Raises
    ValueError for nan, which has no place in an order.
    """
    plain = np.asarray(scores, dtype=np.float64) + 0.0  # turns -0.0 into 0.0
    if np.isnan(plain).any():
        raise ValueError("nan has no place in an order")
    bits = plain.view(np.uint64)
    # IEEE 754: positive floats are ordered like their bits, negative ones the other way round
    rising = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return np.asarray(rising if direction == "low" else ~rising, dtype=np.uint64)


def bins_of(scores: Floats, direction: Wanted) -> Keys:
    """[n] the bin of each score, smallest for the best; raises ValueError for nan."""
    return keys_of(scores, direction) >> np.uint64(64 - TOP_BITS)


@dataclass(frozen=True, eq=False)
class Cut:
    """Where a ranking is cut: every row before the cut is in bin `last` or a better one."""

    last: int  # -1 where nothing is wanted
    direction: Wanted

    def may_hold(self, scores: Floats) -> NDArray[np.bool_]:
        """[n] which rows can be before the cut; nan never is."""
        inside = np.zeros(len(scores), dtype=bool)
        known = np.flatnonzero(~np.isnan(scores))
        inside[known] = bins_of(scores[known], self.direction).astype(np.int64) <= self.last
        return inside


@dataclass(frozen=True, eq=False)
class Histogram:
    """Rows and tokens per bin, best bin first; `one + other` is the histogram of both."""

    direction: Wanted
    bins: Ints  # [b] ascending, each holding at least one row
    rows: Ints  # [b]
    tokens: Ints  # [b] summed over the rows of the bin

    @classmethod
    def of(
        cls, scores: Floats, direction: Wanted, tokens: NDArray[np.integer] | None = None
    ) -> "Histogram":
        """Count scores [n], and tokens [n] where given; nan is left out, it is never picked."""
        known = ~np.isnan(scores)
        spent = np.zeros(len(scores), dtype=np.int64) if tokens is None else tokens
        bins = bins_of(scores[known], direction).astype(np.int64)
        return cls(direction, *_summed(bins, np.ones_like(bins), spent[known].astype(np.int64)))

    @classmethod
    def total(cls, parts: Iterable["Histogram"], direction: Wanted) -> "Histogram":
        """The sum of histograms of one direction, one of them in memory at a time."""
        whole = cls.of(np.empty(0), direction)
        for part in parts:
            whole = whole + part
        return whole

    def __add__(self, other: "Histogram") -> "Histogram":
        if self.direction != other.direction:
            raise ValueError(f"one counts from the {self.direction} end, the other does not")
        pairs = ((self.bins, other.bins), (self.rows, other.rows), (self.tokens, other.tokens))
        return Histogram(self.direction, *_summed(*map(np.concatenate, pairs)))

    def __len__(self) -> int:
        """Rows counted."""
        return int(self.rows.sum())

    def top_k(self, k: int) -> Cut:
        """The cut behind the best k rows; behind all of them where there are no more."""
        reached = int(np.searchsorted(np.cumsum(self.rows), k, side="left"))
        return self._after(reached if k > 0 else -1)

    def quantile(self, share: float) -> Cut:
        """The cut behind row ceil(share x n), counted from the best: the inverted CDF.

        share: in [0, 1], taken as the decimal it is written as, so that 0.29 of 100 is 29.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share must be in [0, 1], not {share}")
        return self.top_k(ceil(Fraction(str(share)) * len(self)))

    def token_budget(self, tokens: int) -> Cut:
        """The cut behind the first row that does not fit a budget of tokens.

        So it serves both ends: the prefix that stops before this row, and the one that takes it.
        """
        return self._after(int(np.searchsorted(np.cumsum(self.tokens), tokens, side="right")))

    def _after(self, at: int) -> Cut:
        if at < 0 or not len(self.bins):
            return Cut(-1, self.direction)
        return Cut(int(self.bins[min(at, len(self.bins) - 1)]), self.direction)


def _summed(bins: Ints, rows: Ints, tokens: Ints) -> tuple[Ints, Ints, Ints]:
    """Bins [b] each once and ascending, with the sums of what stood beside them."""
    order = np.argsort(bins, kind="stable")
    bins = bins[order]
    starts = np.flatnonzero(np.diff(bins, prepend=-1))  # bins are never negative
    if not len(starts):
        return bins, bins.copy(), bins.copy()
    return (
        bins[starts],
        np.add.reduceat(rows[order], starts),
        np.add.reduceat(tokens[order], starts),
    )
