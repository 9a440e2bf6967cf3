"""Choose the best of several methods on one half of the items, and evaluate it on the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.interval import Estimate, difference
from pilotfish.stats.tasks import halves

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Best:
    """The chosen method.

    Attributes:
        name: The method with the best mean on the choosing half.
        found: Its difference to `against` on the other half.
        chosen_on: Items of the choosing half.
        judged_on: Items of the other half.
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
    """Choose the method with the best mean on one half, and compare it on the other half.

    The two halves share the trained models, so a method with lucky seeds is lucky on both. Where
    seeds differ much, choose on other seeds too, or correct by `holm` instead.

    Args:
        methods: Name -> arm [s, n]. Of equal means the first name in the mapping is chosen. The
            choice counts only items that every seed of every method has.
        against: The arm to compare with [s', n].
        ids: Ids of the items [n]; they decide the halves (`halves(ids, salt)`).
        higher_is_better: Which way the metric points.
        salt: Another salt gives other halves.
        alpha: The interval has confidence 1 - alpha.

    Raises:
        ValueError: There is no method, no item to choose by, or a shape that does not fit.
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
