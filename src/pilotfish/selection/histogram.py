"""Histograms that locate the cut of a ranking, so that only a part of the scores is sorted.

A score is mapped to an unsigned integer of the same order; its top bits are its bin. Histograms of
shards add up to that of the pool, in any order. The sum tells in which bin the cut falls. Only rows
of that bin and of better ones can be before the cut, so sorting those rows gives the same result as
sorting all.
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

# Sign, exponent and 8 bits of the mantissa: 256 bins between a score and its double. Only bins that
# hold a row take memory, so histograms stay small, and few rows share the bin of the cut.
TOP_BITS = 20
_SIGN = np.uint64(1 << 63)


def keys_of(scores: Floats, direction: Wanted) -> Keys:
    """Map scores [n] to integers [n], the smallest for the best score.

    The order is that of the numbers, with infinities and denormals; -0.0 equals 0.0.

    Raises:
        ValueError: A score is nan, which has no order.
    """
    plain = np.asarray(scores, dtype=np.float64) + 0.0  # turns -0.0 into 0.0
    if np.isnan(plain).any():
        raise ValueError("nan has no place in an order")
    bits = plain.view(np.uint64)
    # IEEE 754: positive floats are ordered like their bits, negative floats in reverse
    rising = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return np.asarray(rising if direction == "low" else ~rising, dtype=np.uint64)


def bins_of(scores: Floats, direction: Wanted) -> Keys:
    """Return [n] the bin of each score, smallest for the best. Raises ValueError for nan."""
    return keys_of(scores, direction) >> np.uint64(64 - TOP_BITS)


@dataclass(frozen=True, eq=False)
class Cut:
    """The cut of a ranking: every row before it is in bin `last` or in a better one."""

    last: int  # -1 for an empty selection
    direction: Wanted

    def may_hold(self, scores: Floats) -> NDArray[np.bool_]:
        """Return [n] whether each score can be before the cut; nan never is."""
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
        """Count scores, without nan, which is never kept.

        Args:
            scores: [n] scores.
            direction: Which end is best.
            tokens: [n] tokens per row; 0 if not given.
        """
        known = ~np.isnan(scores)
        spent = np.zeros(len(scores), dtype=np.int64) if tokens is None else tokens
        bins = bins_of(scores[known], direction).astype(np.int64)
        return cls(direction, *_summed(bins, np.ones_like(bins), spent[known].astype(np.int64)))

    @classmethod
    def total(cls, parts: Iterable["Histogram"], direction: Wanted) -> "Histogram":
        """Return the sum of histograms of one direction, with one of them in memory at a time."""
        whole = cls.of(np.empty(0), direction)
        for part in parts:
            whole = whole + part
        return whole

    def __add__(self, other: "Histogram") -> "Histogram":
        if self.direction != other.direction:
            raise ValueError(
                f"cannot add a histogram of direction {other.direction} to one of direction "
                f"{self.direction}"
            )
        pairs = ((self.bins, other.bins), (self.rows, other.rows), (self.tokens, other.tokens))
        return Histogram(self.direction, *_summed(*map(np.concatenate, pairs)))

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.rows.sum())

    def top_k(self, k: int) -> Cut:
        """Return the cut after the best k rows, or after all rows if there are fewer."""
        reached = int(np.searchsorted(np.cumsum(self.rows), k, side="left"))
        return self._after(reached if k > 0 else -1)

    def quantile(self, share: float) -> Cut:
        """Return the cut after the best ceil(share x n) rows: the inverted CDF.

        Args:
            share: In [0, 1], used as the decimal that it is written as: 0.29 of 100 is 29.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share must be in [0, 1], not {share}")
        return self.top_k(ceil(Fraction(str(share)) * len(self)))

    def token_budget(self, tokens: int) -> Cut:
        """Return the cut after the first row that does not fit a budget of tokens."""
        return self._after(int(np.searchsorted(np.cumsum(self.tokens), tokens, side="right")))

    def _after(self, at: int) -> Cut:
        if at < 0 or not len(self.bins):
            return Cut(-1, self.direction)
        return Cut(int(self.bins[min(at, len(self.bins) - 1)]), self.direction)


def _summed(bins: Ints, rows: Ints, tokens: Ints) -> tuple[Ints, Ints, Ints]:
    """Distinct bins [b] in ascending order, with the sums of their rows and tokens."""
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
