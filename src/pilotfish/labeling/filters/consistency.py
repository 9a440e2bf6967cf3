"""The filter `consistency`: keep the labels that most of the sampled answers agree on."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.errors import UsageError
from pilotfish.labeling.filters.base import (
    Candidates,
    FilterResult,
    check_cut,
    keep_above,
    keep_share,
)

_ABOVE = 0.5  # where neither `keep` nor `above` is given


@dataclass(frozen=True)
class Consistency:
    """Keep by the share of sampled answers that equal the label.

    With m samples the score has m + 1 values, so a share cuts through ties, which are broken by
    id. Hard questions are dropped first: see `refill`.

    Attributes:
        above: The lowest share of agreement to keep; 0.5 where neither is given.
        keep: Or the share of the labelled rows to keep.
        per_class: Spend `keep` within each weak label.
    """

    above: float | None = None
    keep: float | None = None
    per_class: bool = False

    formula = "share of sampled answers equal to the label"
    cite = "Wang et al. 2022, arXiv:2203.11171; as a filter arXiv:2406.19032"

    def __post_init__(self) -> None:
        check_cut("consistency", self.keep, self.above)

    def apply(self, candidates: Candidates) -> FilterResult:
        """Keep the consistent rows. Raises UsageError where answers were not sampled."""
        score = candidates.labels.consistency
        if score is None:
            raise UsageError(
                "the filter 'consistency' needs sampled answers, and these labels have none",
                hint="label with kind consistency (several samples per row)",
            )
        why = np.where(np.isfinite(score), "", "no sampled answers").astype(object)
        if self.keep is not None:
            return keep_share(candidates, score, why, self.keep, per_class=self.per_class)
        least = _ABOVE if self.above is None else self.above
        return keep_above(candidates, score, why, least)

    def facts(self, candidates: Candidates) -> dict[str, Any]:
        """Return nothing: the counts of rows say it all."""
        return {}
