"""Results of the diversity algorithms, and the order in which rows are processed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pilotfish.errors import UsageError
from pilotfish.records import Floats, Ints, Texts


@dataclass(frozen=True, eq=False)
class DiverseRows:
    """Selected rows in pick order. Arrays [n] are in the caller's order of rows.

    The algorithm defines the unit of `gain` and `closeness`.
    """

    order: Ints  # [k] indices of the selected rows, first picked first
    gain: Floats  # [k] the gain of each pick
    nearest: Ints  # [n] nearest selected row; of a selected row, the nearest one picked before it;
    # -1 where there is none
    closeness: Floats  # [n] distance or similarity to `nearest`, nan where there is none
    reason: Texts  # [n] "" for an eligible row, else why it is not
    notes: Mapping[str, float] = field(default_factory=dict)  # counts for the record


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Near-duplicates: rows are processed best first and dropped if too similar to a kept row.

    No two kept rows are found too similar, and every dropped row has a kept row as its keeper.
    """

    keeper: Ints  # [n] the kept row that a dropped row is most similar to, -1 for other rows
    similarity: Floats  # [n] to the keeper, nan where there is none
    reason: Texts  # [n] "" for a processed row, else why it was not processed
    # 0 if exact. For texts: the probability to miss a pair at the threshold. For vectors in cells:
    # the share of duplicates that were kept, estimated from a sample.
    miss: float

    @property
    def kept(self) -> Ints:
        """[k] the processed rows that were not dropped, in the caller's order."""
        return np.flatnonzero((self.keeper < 0) & (self.reason == ""))


def rank_by_priority(tie: Ints, priority: Floats | None) -> Ints:
    """Return [n] the turn of each row.

    Args:
        tie: [n] distinct ranks that decide between equal priorities.
        priority: [n] the highest comes first, nan last; None orders by `tie` only.

    Raises:
        UsageError: The shapes differ.
    """
    if priority is None:
        return tie
    if priority.shape != tie.shape:
        raise UsageError(f"priority must be [{len(tie)}], got shape {priority.shape}")
    order = np.lexsort((tie, -priority))  # nan sorts last
    rank = np.empty(len(tie), dtype=np.int64)
    rank[order] = np.arange(len(tie))
    return rank
