"""How much of the full data's gain a selection kept: (picked - floor) / (full - floor)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.pgr import NOT_ABOVE, UNBOUNDED, pgr

Floats = NDArray[np.float64]

NO_GAIN = "training on all rows is not above the floor"


@dataclass(frozen=True, slots=True)
class Recovery:
    """One share recovered, or why there is none.

    value: may be below 0 (worse than the floor) or above 1 (better than all rows); low, high: its
    interval. All three are None where not `defined`; `why` then says why, else it is "".
    gap: full - floor, above 0 where full is better whichever way the metric points; None when no
    item was usable. seeds: of picked, full, floor. items: used; excluded: with a nan in any arm.
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
    """Share of the gain of `full` over `floor` that `picked` has; arms [seeds, items], same items.

    It is `pgr` with other names (weak = floor, strong = picked, ceiling = full), so the interval
    is Fieller's and the rule is the same: undefined where full is not above the floor, where the
    interval of the gap covers 0, where the gap is below `min_gap` (units of the metric), and where
    a trained arm has one seed. `fixed` (of picked, full, floor) marks an arm that no seed changes,
    an untrained floor: one row. ValueError where the shapes do not fit.
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
