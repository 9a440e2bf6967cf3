"""Fieller's interval for PGR: all r that the contrast S + (r - 1) W - r C does not rule out.

A ratio has no standard error worth the name when its denominator is uncertain; a difference has.
So the question "is PGR = r?" is asked as "is S + (r - 1) W - r C = 0?", with the seeds and items
of `stats.interval` behind it, and the interval is the set of r that survive (Fieller 1954).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.interval import Parts

Floats = NDArray[np.float64]

_ROUNDING = 1e-9  # a share of the spread over items below which a variance is rounding
_STEPS = 60  # doublings to find a bracket, halvings to close it


@dataclass(frozen=True, slots=True)
class Moments:
    """What one task's weak, strong and ceiling arms say of every contrast of their means.

    means [3] and spread [3, 3], the covariance over items of the arms' means over seeds.
    seed: variance of one seed's mean; noise: of one item under one seed; both pooled over the
    trained arms. seeds: rows per arm; trained [3] bool. n: items.
    """

    means: Floats
    spread: Floats
    seed: float
    noise: float
    seeds: tuple[int, int, int]
    trained: tuple[bool, bool, bool]
    n: int

    def half(self, weights: Floats, alpha: float) -> float:
        """Half the (1 - alpha) interval of the contrast `weights` [3] of the means."""
        reps = math.fsum(
            w * w / s
            for w, s, varies in zip(weights, self.seeds, self.trained, strict=True)
            if varies
        )
        spread = max(0.0, float(weights @ self.spread @ weights))
        item = max(0.0, spread - self.noise * reps)
        if self.seed * reps + item <= _ROUNDING * spread:
            item = spread  # seed means equal by accident: then the items alone speak
        df = sum(s - 1 for s, varies in zip(self.seeds, self.trained, strict=True) if varies)
        return Parts(self.seed, self.noise, item, reps, sum(self.trained), df, self.n).half_width(
            alpha
        )


def moments(arms: Sequence[Floats], fixed: Sequence[bool]) -> Moments:
    """The moments of three arms [seeds, n] of finite values, n >= 2; `fixed` arms have one row."""
    trained = [arm for arm, still in zip(arms, fixed, strict=True) if not still]
    n, df = arms[0].shape[1], max(1, sum(len(arm) - 1 for arm in trained))
    seed = math.fsum(_squares(arm.mean(axis=1)) for arm in trained) / df
    noise = math.fsum(_squares(_residual(arm)) for arm in trained) / (df * (n - 1))
    per_item = np.stack([arm.mean(axis=0) for arm in arms])  # [3, n]
    return Moments(
        np.array([arm.mean() for arm in arms]),
        np.atleast_2d(np.cov(per_item)),
        seed,
        noise,
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
