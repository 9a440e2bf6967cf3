"""Hierarchical bootstrap over seeds and items: a second opinion that assumes no distribution."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_BLOCK = 500  # replicates drawn at once, so that memory stays at _BLOCK x n counts


def bootstrap(
    a: Floats, b: Floats, *, draws: int = 10_000, seed: int = 0, alpha: float = 0.05
) -> tuple[float, float]:
    """Percentile interval (low, high) of mean(a) - mean(b) for arms [s, n] on the same items.

    Per replicate: the items are drawn once and used for every arm and seed, so that pairing is
    kept; then each arm's seeds are drawn. Items with a nan anywhere are left out. A given `seed`
    gives the same interval, and swapping the arms mirrors it only up to the draws.

    With two or three seeds a bootstrap cannot see how far unseen seeds may lie (two seeds agree
    with their own redraw half the time): it is too narrow, which is why verdicts rest on
    `interval.difference` and this is shown beside it.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"the arms must have the same items: {a.shape[1]} and {b.shape[1]}")
    usable = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
    n = int(usable.sum())
    if n == 0:
        raise ValueError("no item was scored by every seed of both arms")
    a, b = a[:, usable], b[:, usable]
    rng = np.random.default_rng(seed)
    replicates = [
        _block(a, b, min(_BLOCK, draws - start), rng) for start in range(0, draws, _BLOCK)
    ]
    low, high = np.quantile(np.concatenate(replicates), [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def _block(a: Floats, b: Floats, size: int, rng: np.random.Generator) -> Floats:
    """[size] differences of bootstrap replicates."""
    n = a.shape[1]
    counts = rng.multinomial(n, np.full(n, 1 / n), size=size)  # [size, n] how often each item
    return _resampled(a, counts, rng) - _resampled(b, counts, rng)


def _resampled(arm: Floats, counts: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    s, n = arm.shape
    means = counts @ arm.T / n  # [size, s]
    picked = rng.integers(s, size=(len(counts), s))
    chosen: Floats = np.take_along_axis(means, picked, axis=1).mean(axis=1)
    return chosen
