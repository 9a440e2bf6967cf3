"""Keep the labels that the weak model gives again when asked again."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.errors import UsageError
from pilotfish.labeling.filters.base import Candidates, Kept, check_knobs, keep_above, keep_share

_ABOVE = 0.5  # where neither way to cut is given


@dataclass(frozen=True)
class Consistency:
    """Keep by the share of sampled answers that equal the label.

    above: the least share (0.5 where nothing is given); or keep: share of the labelled rows. With
    m samples the score has m + 1 values, so a share cuts through ties, which ids settle. It
    removes hard questions first: see `refill`.
    """

    above: float | None = None
    keep: float | None = None
    per_class: bool = False

    formula = "share of sampled answers equal to the label"
    cite = "Wang et al. 2022, arXiv:2203.11171; as a filter arXiv:2406.19032"

    def __post_init__(self) -> None:
        check_knobs("consistency", self.keep, self.above)

    def sift(self, seen: Candidates) -> Kept:
        """UsageError where the labels were made without sampling."""
        score = seen.labels.consistency
        if score is None:
            raise UsageError(
                "the filter 'consistency' needs sampled answers, and these labels have none",
                hint="label with kind consistency (several samples per row)",
            )
        why = np.where(np.isfinite(score), "", "no sampled answers").astype(object)
        if self.keep is not None:
            return keep_share(seen, score, why, self.keep, per_class=self.per_class)
        least = _ABOVE if self.above is None else self.above
        return keep_above(seen, score, why, least)

    def facts(self, seen: Candidates) -> dict[str, Any]:
        """Nothing beside the counts."""
        return {}
