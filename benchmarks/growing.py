"""Two arms of 0/1 that can be judged further: more seeds or more items, the old values kept."""

from copy import copy
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from benchmarks.triples import ARM, ITEM, NORMAL

Floats = NDArray[np.float64]


class Trial:
    """One comparison as in `triples.drawn`, drawn cell by cell as it grows."""

    def __init__(self, rng: np.random.Generator, means: tuple[float, float], spread: float) -> None:
        self.rng = rng
        self.deep = [spread / NORMAL.pdf(NORMAL.inv_cdf(mean)) for mean in means]
        self.level = [
            NORMAL.inv_cdf(mean) * sqrt(1 + deep**2)
            for mean, deep in zip(means, self.deep, strict=True)
        ]
        self.views = [np.zeros(0), np.zeros(0)]  # [n] each: the item, and the arm's view of it
        self.effects = [np.zeros((0, 1)), np.zeros((0, 1))]  # [s, 1] each
        self.values = [np.zeros((0, 0)), np.zeros((0, 0))]  # [s, n] each

    def judged(self, seeds: int, items: int) -> list[Floats]:
        """Both arms [seeds, items]; neither count may be below what was judged already."""
        item = self.rng.normal(0, sqrt(ITEM), items - self.views[0].size)
        for arm in (0, 1):
            old = self.values[arm]
            fresh = self.rng.normal(0, self.deep[arm], (seeds - len(old), 1))
            view = item + self.rng.normal(0, sqrt(ARM), item.size)
            self.effects[arm] = np.concatenate([self.effects[arm], fresh])
            self.views[arm] = np.concatenate([self.views[arm], view])
            whole = self._cells(arm)
            whole[: old.shape[0], : old.shape[1]] = old
            self.values[arm] = whole
        return [each.copy() for each in self.values]

    def copy(self) -> "Trial":
        """The same comparison so far, to be grown apart from this one."""
        other = copy(self)
        other.views, other.effects = list(self.views), list(self.effects)
        other.values = list(self.values)
        return other

    def _cells(self, arm: int) -> Floats:
        shape = (len(self.effects[arm]), self.views[arm].size)
        noise = self.rng.normal(0, sqrt(1 - ITEM - ARM), shape)
        latent = self.level[arm] + self.effects[arm] + self.views[arm] + noise
        right: Floats = (latent > 0).astype(np.float64)
        return right
