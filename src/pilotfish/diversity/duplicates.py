"""What a search for near-duplicates answers, and the order in which rows are judged."""

from dataclasses import dataclass

import numpy as np

from pilotfish.errors import UsageError
from pilotfish.records import Floats, Ints, Texts


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Rows judged best first; a row is dropped when it is too like one kept before it.

    So no two kept rows are found too like each other, and every dropped row names a kept one.
    """

    keeper: Ints  # [n] kept row a dropped one is most like, -1 for every other row
    similarity: Floats  # [n] to the keeper, nan where there is none
    reason: Texts  # [n] "" for a judged row, else why it could not be
    # 0 where exact; of texts the chance that a pair just at the threshold goes unnoticed; of
    # vectors by cells the share of duplicates that were kept, as a sample has it
    miss: float

    @property
    def kept(self) -> Ints:
        """[k] the judged rows that were not dropped, in the caller's order."""
        return np.flatnonzero((self.keeper < 0) & (self.reason == ""))


def judging_rank(tie: Ints, priority: Floats | None) -> Ints:
    """[n] the turn of each row: the greatest priority first, nan last, equal ones by `tie`."""
    if priority is None:
        return tie
    if priority.shape != tie.shape:
        raise UsageError(f"priority must be [{len(tie)}], got shape {priority.shape}")
    order = np.lexsort((tie, -priority))  # nan sorts last
    rank = np.empty(len(tie), dtype=np.int64)
    rank[order] = np.arange(len(tie))
    return rank
