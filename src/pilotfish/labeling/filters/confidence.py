"""Keep the labels the weak model is surest of."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.labeling.filters.base import Candidates, Kept, check_knobs, keep_above, keep_share

_KEEP = 0.8  # where neither way to cut is given


@dataclass(frozen=True)
class Confidence:
    """Keep by the weak model's probability of its own label.

    keep: share of the labelled rows (0.8 where nothing is given); or above: the least confidence.
    per_class: spend the share within each weak label. Sure is not right: a systematic error is
    made with confidence, and hard rows are the first to go.
    """

    keep: float | None = None
    above: float | None = None
    per_class: bool = False

    formula = "p_weak(its own label)"
    cite = "Burns et al. 2023, arXiv:2312.09390"

    def __post_init__(self) -> None:
        check_knobs("confidence", self.keep, self.above)

    def sift(self, seen: Candidates) -> Kept:
        """Rows whose confidence is nan are never kept."""
        score = seen.labels.confidence
        why = np.where(np.isfinite(score), "", "no confidence").astype(object)
        if self.above is not None:
            return keep_above(seen, score, why, self.above)
        return keep_share(seen, score, why, self.keep or _KEEP, per_class=self.per_class)

    def facts(self, seen: Candidates) -> dict[str, Any]:
        """Nothing beside the counts."""
        return {}
