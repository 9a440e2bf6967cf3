"""The best of several methods, chosen on one half of the items and judged on the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.interval import Estimate, difference
from pilotfish.stats.tasks import halves

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Best:
    """name: the method that did best on the choosing half. found: it minus `against` on the other.

    chosen_on, judged_on: items of each half.
    """

    name: str
    found: Estimate
    chosen_on: int
    judged_on: int


def best_of(
    methods: Mapping[str, Floats],
    against: Floats,
    ids: Sequence[str],
    *,
    higher_is_better: bool = True,
    salt: str = "",
    alpha: float = 0.05,
) -> Best:
    """Choose among `methods` {name: [s, n]} by their means, and judge against `against` [s', n].

    Items are split by `halves(ids, salt)`; of equal means the first name in the mapping is taken.
    Items that no seed of a method lacks count, and those only that every method has. The two halves
    share the trained models, so a method lucky in its seeds is lucky on both: where seeds differ
    much, choose on other seeds too, or correct by `holm` instead. ValueError without a method,
    where nothing is left to choose by, or where shapes do not fit.
    """
    side = halves(ids, salt)
    arms = {name: np.asarray(arm, dtype=np.float64) for name, arm in methods.items()}
    if not arms or any(arm.shape[1:] != side.shape for arm in (*arms.values(), against)):
        raise ValueError(f"{len(arms)} methods need a matrix [seeds, {side.size}] each")
    usable = side & np.all([np.isfinite(arm).all(axis=0) for arm in arms.values()], axis=0)
    if not usable.any():
        raise ValueError("no item of the choosing half was judged for every method")
    sign = 1.0 if higher_is_better else -1.0
    name = max(arms, key=lambda one: sign * float(arms[one][:, usable].mean()))
    found = difference(arms[name][:, ~side], against[:, ~side], alpha=alpha)
    return Best(name, found, int(usable.sum()), found.items)
