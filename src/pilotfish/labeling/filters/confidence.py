"""The filter `confidence`: keep the labels in which the weak model is most confident."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.labeling.filters.base import (
    Candidates,
    FilterResult,
    check_cut,
    keep_above,
    keep_share,
)

_KEEP = 0.8  # where neither `keep` nor `above` is given


@dataclass(frozen=True)
class Confidence:
    """Keep by the weak model's probability of its own label.

    A systematic error is made with confidence, and hard rows are dropped first.

    Attributes:
        keep: Share of the labelled rows to keep; 0.8 where neither `keep` nor `above` is given.
        above: Or the lowest confidence to keep.
        per_class: Spend the share within each weak label.
    """

    keep: float | None = None
    above: float | None = None
    per_class: bool = False

    formula = "p_weak(its own label)"
    cite = "Burns et al. 2023, arXiv:2312.09390"

    def __post_init__(self) -> None:
        check_cut("confidence", self.keep, self.above)

    def apply(self, candidates: Candidates) -> FilterResult:
        """Keep the most confident rows; never those whose confidence is nan."""
        score = candidates.labels.confidence
        why = np.where(np.isfinite(score), "", "no confidence").astype(object)
        if self.above is not None:
            return keep_above(candidates, score, why, self.above)
        return keep_share(candidates, score, why, self.keep or _KEEP, per_class=self.per_class)

    def facts(self, candidates: Candidates) -> dict[str, Any]:
        """Return nothing: the counts of rows say it all."""
        return {}
