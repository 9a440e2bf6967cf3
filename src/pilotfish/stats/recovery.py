"""Recovery: the share of the full data's gain that a selection keeps."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.pgr import NOT_ABOVE, UNBOUNDED, pgr

Floats = NDArray[np.float64]

NO_GAIN = "training on all rows is not above the floor"


@dataclass(frozen=True, slots=True)
class Recovery:
    """One share recovered, or why there is none.

    Attributes:
        value: Below 0 where the selection is worse than the floor, above 1 where it is better than
            all rows. It and its interval are None where not `defined`.
        low: Lower end of the interval.
        high: Upper end of the interval.
        defined: Whether there is a share.
        why: Why there is none; "" where there is one.
        gap: full - floor, above 0 where full is better whichever way the metric points; None when
            no item was usable.
        seeds: Number of seeds of picked, full, floor.
        items: Items used.
        excluded: Items with a nan in any arm.
    """

    value: float | None
    low: float | None
    high: float | None
    defined: bool
    why: str
    gap: float | None
    seeds: tuple[int, int, int]
    items: int
    excluded: int

    def __str__(self) -> str:
        """`75% [61%, 90%]`, or `undefined: why`."""
        if self.value is None or self.low is None or self.high is None:
            return f"undefined: {self.why}"
        return f"{self.value:.0%} [{self.low:.0%}, {self.high:.0%}]"


def recovery(
    picked: Floats,
    full: Floats,
    floor: Floats,
    *,
    higher_is_better: bool = True,
    min_gap: float = 0.02,
    alpha: float = 0.05,
    fixed: tuple[bool, bool, bool] = (False, False, False),
) -> Recovery:
    """Estimate (picked - floor) / (full - floor), with Fieller's interval.

    It is `pgr` under other names (weak = floor, strong = picked, ceiling = full), by the same
    rules: undefined where full is not above the floor, where the interval of the gap covers 0,
    where the gap is below `min_gap`, and where a trained arm has one seed.

    Args:
        picked: The arm trained on the selection [seeds, items].
        full: The arm trained on all rows, on the same items.
        floor: The arm to count from, on the same items.
        higher_is_better: Which way the metric points.
        min_gap: Least gap, in units of the metric.
        alpha: The interval has confidence 1 - alpha.
        fixed: Whether picked, full, floor are arms that no seed changes (an untrained floor).

    Raises:
        ValueError: The shapes do not fit.
    """
    ratio = pgr(
        floor,
        picked,
        full,
        higher_is_better=higher_is_better,
        min_gap=min_gap,
        draws=0,
        alpha=alpha,
        fixed=(fixed[2], fixed[0], fixed[1]),
    )
    why = _WORDS.get(ratio.why, ratio.why)
    seeds = (ratio.seeds[1], ratio.seeds[2], ratio.seeds[0])
    return Recovery(
        ratio.raw,
        ratio.low,
        ratio.high,
        ratio.defined,
        why,
        ratio.gap,
        seeds,
        ratio.items,
        ratio.excluded,
    )


_WORDS = {
    NOT_ABOVE: NO_GAIN,
    UNBOUNDED: "the interval of the share has no end: the gain of all rows is too uncertain",
}
