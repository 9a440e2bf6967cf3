"""Fieller's interval for PGR: all r that the contrast S + (r - 1) W - r C does not rule out.

A ratio has no standard error worth the name when its denominator is uncertain; a difference has.
So the question "is PGR = r?" is asked as "is S + (r - 1) W - r C = 0?", with seeds and items behind
it, and the interval is the set of r that survive (Fieller 1954). The arms weigh unequally in that
contrast, so each brings the variance of its own seeds (Welch 1947, Satterthwaite 1946): a pooled
one takes the student's for half of what it is where only the student's seeds vary.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.distributions import t_critical
from pilotfish.stats.interval import Parts

Floats = NDArray[np.float64]

_ROUNDING = 1e-9  # a share of the spread over items below which a variance is rounding
_STEPS = 60  # doublings to find a bracket, halvings to close it
# Seed means wobble by noise / n at least. A variance of two or three of them is often far below
# that by luck; less than this share of it is not believed.
_LEAST = 1.0 / 3.0
_CELLS = 200  # of 1 / df in [0, 1], between which factors of t are interpolated


@dataclass(frozen=True, slots=True)
class Moments:
    """What one task's three arms say of every contrast of their means.

    means [3] and spread [3, 3], the covariance over items of the arms' means over seeds.
    seed [3]: variance of one seed's mean; noise [3]: of one item under one seed, the seed's, arm's
    and item's part taken out; 0 for an arm that is not trained. seeds: rows per arm; trained [3]
    bool. n: items.
    """

    means: Floats
    spread: Floats
    seed: Floats
    noise: Floats
    seeds: tuple[int, int, int]
    trained: tuple[bool, bool, bool]
    n: int

    def pooled_half(self, weights: Floats, alpha: float) -> float:
        """Half the (1 - alpha) interval of the contrast `weights` [3], as `stats.contrast` has it:
        one seed variance for all arms."""
        df = self._degrees()
        reps = float(self._reps(weights).sum())
        seed, noise = (float(df @ each) / max(1, df.sum()) for each in (self.seed, self.noise))
        item = self._item(weights, noise * reps, seed * reps)
        parts = Parts(seed, noise, item, reps, sum(self.trained), int(df.sum()), self.n)
        return parts.half_width(alpha)

    def half(self, weights: Floats, alpha: float) -> float:
        """The same with a variance for each arm, at Satterthwaite's degrees of freedom.

        Yet at no more of them than equal variances would have: an arm whose few seeds happen to lie
        close together makes the variance small and the degrees many in one stroke.
        """
        reps, df = self._reps(weights), self._degrees()
        seed = np.maximum(self.seed, _LEAST * self.noise / self.n)
        apart, even = reps * seed, reps * float(df @ seed) / max(1, df.sum())
        item = self._item(weights, float(reps @ self.noise), float(apart.sum())) / self.n
        total = float(apart.sum()) + item
        inverse = max(self._inverse_df(parts, item) for parts in (apart, even))
        return math.sqrt(total) * _factor(alpha, inverse) if total else 0.0

    def _inverse_df(self, seeds: Floats, item: float) -> float:
        """1 / degrees of freedom of a sum of variances: of each arm's seeds [3], and of items."""
        wobble = float((seeds**2 / np.maximum(1, self._degrees())).sum()) + item**2 / (self.n - 1)
        total = float(seeds.sum()) + item
        return wobble / total**2 if total else 0.0

    def _degrees(self) -> Floats:
        return np.array(
            [s - 1 if on else 0 for s, on in zip(self.seeds, self.trained, strict=True)]
        )

    def _reps(self, weights: Floats) -> Floats:
        """[3] squared weight over seeds; 0 for an arm that no seed changes."""
        reps: Floats = weights**2 / np.array(self.seeds) * np.array(self.trained)
        return reps

    def _item(self, weights: Floats, noise: float, seeds: float) -> float:
        """Variance between items that new seeds would not average away."""
        spread = max(0.0, float(weights @ self.spread @ weights))
        item = max(0.0, spread - noise)
        # seed means equal by accident: then the items alone speak
        return spread if seeds + item <= _ROUNDING * spread else item


def _factor(alpha: float, inverse: float) -> float:
    """Student's t at 1 / `inverse` degrees of freedom (0: the normal), by straight lines between
    exact places, for it is asked often."""
    place = min(inverse, 1.0) * _CELLS
    below = min(int(place), _CELLS - 1)
    low, high = (t_critical(alpha, _CELLS / at if at else math.inf) for at in (below, below + 1))
    return low + (high - low) * (place - below)


def moments(arms: Sequence[Floats], fixed: Sequence[bool]) -> Moments:
    """The moments of three arms [seeds, n] of finite values, n >= 2; `fixed` arms have one row."""
    n = arms[0].shape[1]
    degrees = [max(1, len(arm) - 1) for arm in arms]
    per_item = np.stack([arm.mean(axis=0) for arm in arms])  # [3, n]
    return Moments(
        np.array([arm.mean() for arm in arms]),
        np.atleast_2d(np.cov(per_item)),
        np.array([_squares(arm.mean(axis=1)) / df for arm, df in zip(arms, degrees, strict=True)]),
        np.array(
            [_squares(_residual(a)) / (df * (n - 1)) for a, df in zip(arms, degrees, strict=True)]
        ),
        (len(arms[0]), len(arms[1]), len(arms[2])),
        (not fixed[0], not fixed[1], not fixed[2]),
        n,
    )


def fieller(tasks: Sequence[Moments], alpha: float) -> tuple[float, float] | None:
    """(low, high) of the PGR of the tasks' mean W, S, C; None where the set of r has no end.

    Tasks share no items, so their squared half widths add up. The mean C - W must be above 0.
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
    """Where the set around `at` ends on one side; `at` itself survives by construction."""
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


def _squares(values: Floats) -> float:
    """Sum of squares around the mean; exactly 0 for equal values, whatever the rounding."""
    flat = values.ravel()
    return 0.0 if np.ptp(flat) == 0 else float(((flat - flat.mean()) ** 2).sum())


def _residual(values: Floats) -> Floats:
    """[s, n] what is left once seed means and item means are taken out."""
    left: Floats = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0)
    left += values.mean()
    return left
