"""The interface of a ranker, the gate on eligible scores, and the order among equal scores.

Reason codes of a decision (`explain` turns them into sentences): `kept`; `over_budget` (eligible,
but ranked after the cut) and `over_quota` (after the cut of its group); `duplicate_of` (a duplicate
of a better-ranked row); `over_ceiling` and `under_floor` (outside the gate); `unmatched` and
`in_selection` (not used by a matched control); `unscorable:<reason>`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pilotfish.records import Floats, Ints, Texts

Direction = Literal["high", "low", "middle"]

KEPT = "kept"
OVER_BUDGET = "over_budget"
OVER_QUOTA = "over_quota"
COPY = "duplicate_of"
OVER_CEILING = "over_ceiling"
UNDER_FLOOR = "under_floor"
UNMATCHED = "unmatched"
IN_SELECTION = "in_selection"
UNSCORABLE = "unscorable"


@dataclass(frozen=True, eq=False)
class Ranking:
    """Every eligible row, best first; a budget keeps a prefix of `order`."""

    order: Ints  # [m] pool indices
    reason: Texts  # [n] "" for a ranked row, else the code why it is not eligible
    notes: Mapping[str, int] = field(default_factory=dict)  # counts for run.json


class Ranker(Protocol):
    """A way to rank rows."""

    def rank(self, scores: Floats, tie: Ints) -> Ranking:
        """Rank the rows; one with a score that is not finite is not eligible.

        Args:
            scores: [n] scores.
            tie: [n] the order among equal scores, smallest first (see `tie_rank`).
        """
        ...


@dataclass(frozen=True, slots=True)
class Gate:
    """Bounds on eligible scores; with `strict`, a score equal to a bound is outside."""

    below: float | None = None
    above: float | None = None
    strict: bool = True

    def reasons(self, scores: Floats) -> Texts:
        """Return [n] "" where eligible, else `unscorable`, `over_ceiling` or `under_floor`."""
        reason = np.full(len(scores), "", dtype=object)
        if self.below is not None:
            over = scores >= self.below if self.strict else scores > self.below
            reason[over] = OVER_CEILING
        if self.above is not None:
            under = scores <= self.above if self.strict else scores < self.above
            reason[under] = UNDER_FLOOR
        reason[~np.isfinite(scores)] = UNSCORABLE
        return reason


OPEN = Gate()  # every finite score is eligible


def best_first(scores: Floats, tie: Ints, rows: Ints, direction: Literal["high", "low"]) -> Ints:
    """Sort some rows by score, best first, and rows of equal score by tie.

    Args:
        scores: [n] scores.
        tie: [n] the order among equal scores, smallest first.
        rows: [m] the rows to sort.
        direction: Which end is best.
    """
    key = scores[rows] if direction == "low" else -scores[rows]
    return rows[np.lexsort((tie[rows], key))]


def tie_rank(digest: Sequence[str] | Texts | NDArray[np.bytes_], id: Sequence[str] | Texts) -> Ints:
    """Return [n] the rank of each row by (content digest, row id), independent of the file order.

    Args:
        digest: [n] hex texts, or bytes of equal length.
        id: [n] row ids; only those of rows with equal content are read.
    """
    content = np.asarray(digest, dtype=np.bytes_)
    order = np.argsort(content, kind="stable")
    ordered = content[order]
    same = np.concatenate(
        ([False], ordered[1:] == ordered[:-1], [False])
    )  # content equal to the previous row's
    starts = np.flatnonzero(~same[:-1] & same[1:])
    stops = np.flatnonzero(same[:-1] & ~same[1:]) + 1
    for start, stop in zip(starts, stops, strict=True):
        order[start:stop] = sorted(order[start:stop], key=lambda i: id[i])
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank
