"""Fieller's interval for PGR: all r that the contrast S + (r - 1) W - r C does not rule out.

A ratio has no useful standard error when its denominator is uncertain; a difference has. So the
hypothesis PGR = r is tested as S + (r - 1) W - r C = 0, over seeds and items, and the interval is
the set of r that is not rejected (Fieller 1954). The arms have unequal weights in that contrast, so
each has the variance of its own seeds (Welch 1947, Satterthwaite 1946): a pooled variance halves
the student's where only the student's seeds vary.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.distributions import t_critical
from pilotfish.stats.interval import Parts, residual, sum_of_squares

Floats = NDArray[np.float64]

_ROUNDING = 1e-9  # a share of the spread over items below which a variance is rounding
_STEPS = 60  # doublings to find a bracket, halvings to close it
# Seed means vary by noise / n at least. The variance of two or three of them is often far below
# that by luck; it is raised to this share of it.
_LEAST = 1.0 / 3.0
_CELLS = 200  # of 1 / df in [0, 1], between which factors of t are interpolated


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of the three arms of one task, enough for every contrast of their means.

    Attributes:
        means: Means of the arms [3].
        spread: Covariance over items of the arms' means over seeds [3, 3].
        seed: Variance of one seed's mean [3]; 0 for an arm that is not trained.
        noise: Variance of one item under one seed [3], after removing seed, arm and item.
        seeds: Rows per arm.
        trained: Which arms have seeds.
        n: Number of items.
    """

    means: Floats
    spread: Floats
    seed: Floats
    noise: Floats
    seeds: tuple[int, int, int]
    trained: tuple[bool, bool, bool]
    n: int

    def pooled_half(self, weights: Floats, alpha: float) -> float:
        """Return half the (1 - alpha) interval of the contrast `weights` [3].

        It is that of `stats.contrast`, with one seed variance for all arms.
        """
        df = self._degrees()
        reps = float(self._reps(weights).sum())
        seed, noise = (float(df @ each) / max(1, df.sum()) for each in (self.seed, self.noise))
        item = self._item(weights, noise * reps, seed * reps)
        parts = Parts(seed, noise, item, reps, sum(self.trained), int(df.sum()), self.n)
        return parts.half_width(alpha)

    def half(self, weights: Floats, alpha: float) -> float:
        """Return the same with a variance for each arm, at Satterthwaite's degrees of freedom.

        There are at most as many of them as equal variances would have: an arm whose few seeds
        happen to lie close together would make the variance small and the degrees many at once.
        """
        reps, df = self._reps(weights), self._degrees()
        seed = np.maximum(self.seed, _LEAST * self.noise / self.n)
        apart, even = reps * seed, reps * float(df @ seed) / max(1, df.sum())
        item = self._item(weights, float(reps @ self.noise), float(apart.sum())) / self.n
        total = float(apart.sum()) + item
        inverse = max(self._inverse_df(parts, item) for parts in (apart, even))
        return math.sqrt(total) * _factor(alpha, inverse) if total else 0.0

    def _inverse_df(self, seeds: Floats, item: float) -> float:
        """Return 1 / degrees of freedom of the variance of the arms' seeds [3] plus the items'."""
        wobble = float((seeds**2 / np.maximum(1, self._degrees())).sum()) + item**2 / (self.n - 1)
        total = float(seeds.sum()) + item
        return wobble / total**2 if total else 0.0

    def _degrees(self) -> Floats:
        return np.array(
            [s - 1 if on else 0 for s, on in zip(self.seeds, self.trained, strict=True)]
        )

    def _reps(self, weights: Floats) -> Floats:
        """Return squared weight over seeds [3]; 0 for an arm that no seed changes."""
        reps: Floats = weights**2 / np.array(self.seeds) * np.array(self.trained)
        return reps

    def _item(self, weights: Floats, noise: float, seeds: float) -> float:
        """Return the variance between items that new seeds would not average away."""
        spread = max(0.0, float(weights @ self.spread @ weights))
        item = max(0.0, spread - noise)
        # seed means equal by accident: then the items alone speak
        return spread if seeds + item <= _ROUNDING * spread else item


def _factor(alpha: float, inverse: float) -> float:
    """Return Student's t at 1 / `inverse` degrees of freedom (0: the normal).

    It interpolates linearly between cached exact values, because it is called often.
    """
    place = min(inverse, 1.0) * _CELLS
    below = min(int(place), _CELLS - 1)
    low, high = (t_critical(alpha, _CELLS / at if at else math.inf) for at in (below, below + 1))
    return low + (high - low) * (place - below)


def moments(arms: Sequence[Floats], fixed: Sequence[bool]) -> Moments:
    """Return the moments of three finite arms [seeds, n], n >= 2; `fixed` arms have one row."""
    n = arms[0].shape[1]
    degrees = [max(1, len(arm) - 1) for arm in arms]
    per_item = np.stack([arm.mean(axis=0) for arm in arms])  # [3, n]
    return Moments(
        np.array([arm.mean() for arm in arms]),
        np.atleast_2d(np.cov(per_item)),
        np.array(
            [sum_of_squares(arm.mean(axis=1)) / df for arm, df in zip(arms, degrees, strict=True)]
        ),
        np.array(
            [
                sum_of_squares(residual(a)) / (df * (n - 1))
                for a, df in zip(arms, degrees, strict=True)
            ]
        ),
        (len(arms[0]), len(arms[1]), len(arms[2])),
        (not fixed[0], not fixed[1], not fixed[2]),
        n,
    )


def fieller(tasks: Sequence[Moments], alpha: float) -> tuple[float, float] | None:
    """Return the interval (low, high) of the PGR of the tasks' mean W, S, C.

    Tasks share no items, so their squared half widths add up.

    Args:
        tasks: The moments of each task; the mean of C - W must be above 0.
        alpha: The interval has confidence 1 - alpha.

    Returns:
        The ends; None where the set of r has no end.
    """
    weak, strong, ceiling = np.mean([task.means for task in tasks], axis=0)
    at = float((strong - weak) / (ceiling - weak))

    def survives(r: float) -> bool:
        weights = np.array([r - 1.0, 1.0, -r])
        halves = [task.half(weights, alpha) / len(tasks) for task in tasks]
        value = (strong - weak) - r * (ceiling - weak)
        return abs(float(value)) <= math.hypot(*halves)

    low, high = _edge(survives, at, -1.0), _edge(survives, at, 1.0)
    return None if low is None or high is None else (low, high)


def _edge(survives: Callable[[float], bool], at: float, side: float) -> float | None:
    """Return where the set around `at` ends on one side; `at` itself always belongs to it."""
    step = 1e-6
    for _ in range(_STEPS):
        if not survives(at + side * step):
            break
        step *= 2.0
    else:
        return None
    inside, outside = 0.0, step
    for _ in range(_STEPS):
        middle = 0.5 * (inside + outside)
        inside, outside = (middle, outside) if survives(at + side * middle) else (inside, middle)
    return at + side * inside
