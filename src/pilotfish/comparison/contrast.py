"""Two arms on the same items: their difference, and what it means given the metric's direction."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pilotfish import stats
from pilotfish.comparison.arm_table import is_fixed, matrices
from pilotfish.errors import UsageError
from pilotfish.evaluation.results import Results
from pilotfish.stats import Estimate

Outcome = Literal["better", "equivalent", "worse", "undecided", "not_tested"]

CLAIM_SEEDS = 3  # rules of evidence, 1: below this a trained arm supports no claim

MARGINS: Mapping[str, float] = {"exact_match": 0.02, "accuracy": 0.02, "loss": 0.01}
"""The largest difference that makes no difference, by metric: two points of a share, the wider of
what guards commonly allow; a hundredth of a nat per token, which is 1% of perplexity."""


@dataclass(frozen=True)
class Contrast:
    """arm - against in the metric's own numbers, over the items every seed of both could score.

    means: of the arm and of what it is held against, over those same items; None without any.
    """

    arm: str
    against: str
    metric: str
    higher_is_better: bool
    found: Estimate
    means: tuple[float, float] | None
    alpha: float = 0.05

    @property
    def outcome(self) -> Outcome:
        """better or worse by an interval on one side of 0, else undecided."""
        if self.found.low is None or self.found.high is None:
            return "undecided"
        if self.found.low <= 0 <= self.found.high:
            return "undecided"
        return "better" if self.ahead else "worse"

    @property
    def ahead(self) -> bool:
        """Whether the arm is on the good side of 0, however uncertain."""
        value = self.found.value or 0.0
        return value > 0 if self.higher_is_better else value < 0

    @property
    def level(self) -> bool:
        """Whether there is no difference at all."""
        return self.found.value == 0.0


def contrast(
    results: Results,
    arm: str,
    against: str,
    *,
    metric: str,
    higher_is_better: bool,
    alpha: float = 0.05,
) -> Contrast:
    """Compare two judged arms; DataError when they were not judged on the same items."""
    a, b = matrices(results, [arm, against])
    fixed = (is_fixed(results, arm), is_fixed(results, against))
    found = stats.difference(a, b, alpha=alpha, fixed=fixed)
    usable = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
    means = (float(a[:, usable].mean()), float(b[:, usable].mean())) if usable.any() else None
    return Contrast(arm, against, metric, higher_is_better, found, means, alpha)


def short_of_seeds(results: Results, arms: tuple[str, ...]) -> dict[str, int]:
    """{arm: seeds it has} of the arms too few seeds stand behind for a claim."""
    counts = {arm: len(results.get(arm, {})) for arm in arms}
    return {
        arm: count
        for arm, count in counts.items()
        if count < CLAIM_SEEDS and not (count and is_fixed(results, arm))
    }


def margin_of(metric: str, margin: float | None = None) -> float | None:
    """The margin asked for, else the metric's own; None for a metric that has none."""
    if margin is not None and not 0 < margin < math.inf:
        raise UsageError(f"an equivalence margin must be a number above 0, not {margin}")
    return MARGINS.get(metric) if margin is None else margin
