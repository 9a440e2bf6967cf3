"""The rule of `--refill`: add filtered hard rows back where a second model agrees."""

from dataclasses import dataclass

import numpy as np

from pilotfish.errors import UsageError
from pilotfish.labeling.filters.base import (
    Bools,
    Candidates,
    FilterResult,
    check_share,
    count_of,
    ties,
)
from pilotfish.labeling.table import Labels
from pilotfish.records import Floats, Texts

DISAGREES = "the second model answers otherwise"
SILENT = "the second model gave no answer"
UNSURE = "the second model is not sure enough"
EASY = "easier than the difficulty floor"
UNKNOWN = "no difficulty"
OVER = "beyond the quota of hard rows"


@dataclass(frozen=True)
class Refill:
    """Add hard rows back: filters remove them first, and a student without them learns less.

    After arXiv:2503.04249, whose second stage is answered by the model trained in the first.

    Attributes:
        quota: Most rows to add back, as a share of the rows kept before.
        floor: Share of the labelled rows that are too easy; 0.5: only the harder half comes back.
        above: The second model's lowest confidence; 0: any.
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

    def admit(
        self, candidates: Candidates, kept: Bools, second: Labels, difficulty: Floats
    ) -> FilterResult:
        """Keep the rows of the first round, and add the hardest that pass the rule, ties by id.

        Args:
            candidates: The rows [n] as labelled in the first round.
            kept: Whether each row was kept there [n].
            second: Another model's labels of the same rows: the student of the first round, or a
                second weak model.
            difficulty: Higher is harder [n], such as 1 - confidence.

        Returns:
            The rows kept now, with the difficulty as score.

        Raises:
            ValueError: The arguments are of different rows.
        """
        if list(second.ids) != list(candidates.labels.ids):
            raise ValueError("the second model's labels are of other rows, or in another order")
        if len(kept) != len(candidates) or len(difficulty) != len(candidates):
            raise ValueError(
                f"{len(candidates)} rows, {len(kept)} kept, {len(difficulty)} difficulties"
            )
        kept = np.asarray(kept, dtype=bool) & candidates.labels.ok
        reason = self._reasons(candidates, kept, second, difficulty)
        ranked = np.lexsort((ties(candidates.labels.ids), -np.nan_to_num(difficulty, nan=-np.inf)))
        passing = ranked[((reason == "") & ~kept)[ranked]]
        most = count_of(self.quota, int(kept.sum()))
        reason[passing[most:]] = OVER
        return FilterResult(
            reason == "", np.where(candidates.labels.ok, difficulty, np.nan), reason
        )

    def _reasons(
        self, candidates: Candidates, kept: Bools, second: Labels, difficulty: Floats
    ) -> Texts:
        """Return why a row may not come back [n]; "" where it may, or was kept before."""
        known = candidates.labels.ok & np.isfinite(difficulty)
        floor = np.quantile(difficulty[known], self.floor) if known.any() else np.inf
        with np.errstate(invalid="ignore"):
            unsure = ~(second.confidence >= self.above) if self.above else np.zeros(len(kept), bool)
            checks = [
                (~candidates.labels.ok, "not labelled"),
                (~second.ok, SILENT),
                (candidates.labels.label != second.label, DISAGREES),
                (unsure, UNSURE),
                (~np.isfinite(difficulty), UNKNOWN),
                (difficulty < floor, EASY),
            ]
        reason = np.full(len(kept), "", dtype=object)
        for failed, why in checks:
            reason[(reason == "") & np.asarray(failed, dtype=bool) & ~kept] = why
        return reason
