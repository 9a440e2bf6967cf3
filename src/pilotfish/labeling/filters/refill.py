"""A second round: hard rows that a filter removed come back where a second model agrees."""

from dataclasses import dataclass

import numpy as np

from pilotfish.errors import UsageError
from pilotfish.labeling.filters.base import Bools, Candidates, Kept, check_share, count_of, ties
from pilotfish.labeling.table import Labels
from pilotfish.records import Floats, Texts

KEPT_BEFORE = ""
DISAGREES = "the second model answers otherwise"
SILENT = "the second model gave no answer"
UNSURE = "the second model is not sure enough"
EASY = "easier than the difficulty floor"
UNKNOWN = "no difficulty"
OVER = "beyond the quota of hard rows"


@dataclass(frozen=True)
class Refill:
    """Re-admit hard rows: filters remove them first, and a student without them learns less.

    quota: hard rows let in, as a share of the rows kept before; floor: share of the labelled rows
    that are easier than any of them (0.5: only the harder half comes back); above: the second
    model's least confidence (0: any). After arXiv:2503.04249, whose second stage is answered by
    the model that the first stage trained.
    """

    quota: float = 0.25
    floor: float = 0.5
    above: float = 0.0

    def __post_init__(self) -> None:
        check_share("refill", self.quota)
        if not 0.0 <= self.floor < 1.0 or not 0.0 <= self.above <= 1.0:
            raise UsageError(
                f"refill: floor={self.floor:g} or above={self.above:g} is out of range",
                hint="write refill(quota=0.25, floor=0.5)",
            )

    def admit(self, seen: Candidates, kept: Bools, second: Labels, difficulty: Floats) -> Kept:
        """The rows kept after the second round, those of the first included.

        kept [n]: the first round's; second: another model's labels of the same rows (the student
        of the first round, or a second weak model); difficulty [n], higher is harder, such as
        1 - confidence. Of the rows that pass, the hardest come back, ties by id, at most
        `quota` x kept of them. score is the difficulty. ValueError where the rows differ.
        """
        if list(second.ids) != list(seen.labels.ids):
            raise ValueError("the second model's labels are of other rows, or in another order")
        if len(kept) != len(seen) or len(difficulty) != len(seen):
            raise ValueError(f"{len(seen)} rows, {len(kept)} kept, {len(difficulty)} difficulties")
        kept = np.asarray(kept, dtype=bool) & seen.labels.ok
        reason = self._reasons(seen, kept, second, difficulty)
        ranked = np.lexsort((ties(seen.labels.ids), -np.nan_to_num(difficulty, nan=-np.inf)))
        passing = ranked[((reason == "") & ~kept)[ranked]]
        most = count_of(self.quota, int(kept.sum()))
        reason[passing[most:]] = OVER
        return Kept(reason == "", np.where(seen.labels.ok, difficulty, np.nan), reason)

    def _reasons(self, seen: Candidates, kept: Bools, second: Labels, difficulty: Floats) -> Texts:
        """[n] why a row may not come back; "" where it may, or was kept before."""
        known = seen.labels.ok & np.isfinite(difficulty)
        floor = np.quantile(difficulty[known], self.floor) if known.any() else np.inf
        with np.errstate(invalid="ignore"):
            unsure = ~(second.confidence >= self.above) if self.above else np.zeros(len(kept), bool)
            checks = [
                (~seen.labels.ok, "not labelled"),
                (~second.ok, SILENT),
                (seen.labels.label != second.label, DISAGREES),
                (unsure, UNSURE),
                (~np.isfinite(difficulty), UNKNOWN),
                (difficulty < floor, EASY),
            ]
        reason = np.full(len(kept), "", dtype=object)
        for failed, why in checks:
            reason[(reason == "") & np.asarray(failed, dtype=bool) & ~kept] = why
        return reason
