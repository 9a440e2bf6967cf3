"""Hierarchical bootstrap over seeds and items: a second interval that assumes no distribution."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BLOCK = 500  # replicates drawn at once, so that memory stays at BLOCK x n counts


def bootstrap(
    a: Floats, b: Floats, *, draws: int = 10_000, seed: int = 0, alpha: float = 0.05
) -> tuple[float, float]:
    """Return the percentile interval (low, high) of mean(a) - mean(b).

    Each replicate draws the items once for every arm and seed, which keeps the pairing, and then
    the seeds of each arm. With two or three seeds the interval is too narrow, because a bootstrap
    cannot show how far unseen seeds may lie (two seeds equal their own redraw half the time).
    Verdicts therefore use `interval.difference`, and the report shows this interval as well.

    Args:
        a: First arm [s, n].
        b: Second arm [s', n], on the same items; items with a nan in either are left out.
        draws: Number of replicates.
        seed: The same seed gives the same interval. Swapping the arms mirrors the interval only up
            to the draws.
        alpha: The interval has confidence 1 - alpha.

    Raises:
        ValueError: The arms have different items, or no item without a nan.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"the arms must have the same items: {a.shape[1]} and {b.shape[1]}")
    usable = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
    n = int(usable.sum())
    if n == 0:
        raise ValueError("no item was scored by every seed of both arms")
    a, b = a[:, usable], b[:, usable]
    rng = np.random.default_rng(seed)
    differences = []
    for start in range(0, draws, BLOCK):
        of_a, of_b = replicates((a, b), min(BLOCK, draws - start), rng)
        differences.append(of_a - of_b)
    low, high = np.quantile(np.concatenate(differences), [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def replicates(arms: Sequence[Floats], size: int, rng: np.random.Generator) -> Floats:
    """Draw bootstrap replicates of the means of arms that share their items.

    The items are drawn once per replicate and used for all arms; then the seeds of each arm.

    Args:
        arms: One matrix [s, n] per arm, the same n items in each, without nan.
        size: How many replicates to draw.
        rng: Random generator; it advances by one multinomial and one draw per arm.

    Returns:
        Means [arms, size].
    """
    n = arms[0].shape[1]
    counts = rng.multinomial(n, np.full(n, 1 / n), size=size)  # [size, n] how often each item
    means = []
    for arm in arms:
        per_seed = counts @ arm.T / n  # [size, s]
        picked = rng.integers(len(arm), size=(size, len(arm)))
        means.append(np.take_along_axis(per_seed, picked, axis=1).mean(axis=1))
    drawn: Floats = np.stack(means)
    return drawn
