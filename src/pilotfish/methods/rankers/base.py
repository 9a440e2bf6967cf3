"""What a ranker is: it ranks the eligible rows and says why the others are not eligible.

Reason codes of a decision, all short and machine-readable (`explain` makes the sentence):
`kept`; `over_budget` (eligible, ranked after the cut), `over_quota` (after its group's);
`duplicate_of` (a copy of a better-ranked row); `over_ceiling`, `under_floor` (a gate);
`unmatched`, `in_selection` (a matched control had no use for the row); `unscorable:<reason>`.
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
    """Every eligible row, best first; a budget cuts a prefix of `order`."""

    order: Ints  # [m] pool indices
    reason: Texts  # [n] "" for a ranked row, else the code why it cannot be picked
    notes: Mapping[str, int] = field(default_factory=dict)  # counts worth recording


class Ranker(Protocol):
    """One way to rank. `tie` [n] decides between equal scores (see `tie_rank`)."""

    def rank(self, scores: Floats, tie: Ints) -> Ranking:
        """Rank scores [n]; a non-finite score is never in the order."""
        ...


@dataclass(frozen=True, slots=True)
class Gate:
    """Only scores inside the gate are eligible. Strict: the bound itself is outside."""

    below: float | None = None
    above: float | None = None
    strict: bool = True

    def reasons(self, scores: Floats) -> Texts:
        """[n] "" where eligible, else `unscorable`, `over_ceiling` or `under_floor`."""
        reason = np.full(len(scores), "", dtype=object)
        if self.below is not None:
            over = scores >= self.below if self.strict else scores > self.below
            reason[over] = OVER_CEILING
        if self.above is not None:
            under = scores <= self.above if self.strict else scores < self.above
            reason[under] = UNDER_FLOOR
        reason[~np.isfinite(scores)] = UNSCORABLE
        return reason


OPEN = Gate()  # every finite score may be picked


def best_first(scores: Floats, tie: Ints, rows: Ints, direction: Literal["high", "low"]) -> Ints:
    """Sort `rows` [m] by (score in the wanted direction, tie)."""
    key = scores[rows] if direction == "low" else -scores[rows]
    return rows[np.lexsort((tie[rows], key))]


def tie_rank(digest: Sequence[str] | Texts | NDArray[np.bytes_], id: Sequence[str] | Texts) -> Ints:
    """[n] place of each row by (content digest, row id): the same whatever the file order.

    digest: hex texts, or bytes of one length. An id is looked at only where contents are equal.
    """
    content = np.asarray(digest, dtype=np.bytes_)
    order = np.argsort(content, kind="stable")
    ordered = content[order]
    same = np.concatenate(([False], ordered[1:] == ordered[:-1], [False]))  # as the row before
    starts = np.flatnonzero(~same[:-1] & same[1:])
    stops = np.flatnonzero(same[:-1] & ~same[1:]) + 1
    for start, stop in zip(starts, stops, strict=True):
        order[start:stop] = sorted(order[start:stop], key=lambda i: id[i])
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank
