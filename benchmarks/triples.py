"""Draws arms of 0/1 with known means, or a known PGR: thresholds on a latent difficulty."""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

NORMAL = NormalDist()
ITEM, ARM = 0.55, 0.15  # shares of the latent variance: the item itself, and the arm's view of it


def triple(
    rng: np.random.Generator,
    *,
    seeds: int = 3,
    items: int = 500,
    spread: ArrayLike = 0.01,
    pgr: float = 0.6,
    floor: float = 0.65,
    top: float = 0.9,
    tied: float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Three arms [seeds, items] of 0/1 with true means floor, floor + pgr (top - floor), top.

    spread: standard deviation of a seed's true mean, one for all arms or one for each. tied:
    correlation of the student's seed effects with the weak model's.
    """
    means = (floor, floor + pgr * (top - floor), top)
    weak, strong, ceiling = drawn(rng, means, seeds=seeds, items=items, spread=spread, tied=tied)
    return weak, strong, ceiling


def drawn(
    rng: np.random.Generator,
    means: Sequence[float],
    *,
    seeds: int,
    items: int,
    spread: ArrayLike,
    tied: float = 0.0,
) -> list[NDArray[np.float64]]:
    """Arms [seeds, items] of 0/1 on the same items with these true means, over seeds and items.

    Items differ in difficulty and every arm has its own view of each (arm x item). spread: as in
    `triple`. tied: correlation of the second arm's seed effects with the first's.
    """
    item = rng.normal(0, sqrt(ITEM), items)
    effects = rng.normal(0, 1, (len(means), seeds, 1))
    effects[1] = tied * effects[0] + sqrt(1 - tied**2) * effects[1]
    arms = []
    for mean, size, effect in zip(means, np.broadcast_to(spread, len(means)), effects, strict=True):
        deep = size / NORMAL.pdf(NORMAL.inv_cdf(mean))  # a spread of shares as one of thresholds
        level = NORMAL.inv_cdf(mean) * sqrt(1 + deep**2) + deep * effect
        view = item + rng.normal(0, sqrt(ARM), items)
        noise = rng.normal(0, sqrt(1 - ITEM - ARM), (seeds, items))
        arms.append((level + view + noise > 0).astype(np.float64))
    return arms
