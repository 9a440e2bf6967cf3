"""Intervals over seeds *and* items, for one arm and for the difference of two.

The model behind every formula here: the value of item i under seed s of arm a is

    x[a, s, i] = arm_a + seed_as + item_i + (arm x item)_ai + noise_asi

and inference is to *new* seeds on *new* items of the same kind.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.distributions import t_critical

Floats = NDArray[np.float64]

_LEAST_P = 1e-12  # below this no decision changes
_ROUNDING = 1e-9  # a share of the spread over items below which a variance is rounding


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the variance of an estimate, in squared units of the metric.

    Attributes:
        seed: Variance of one seed's mean around its arm (the pure seed part *and* noise / n).
        noise: Variance of one item under one seed, after removing seed, arm and item.
        item: Variance between items that new seeds would not average away, >= 0.
        reps: Sum of weight^2 / S (1 / S in a mean or difference) over the arms that have seeds; 0
            where every arm is deterministic.
        trained: How many arms have seeds.
        df_seed: Degrees of freedom of `seed`, the sum of S - 1.
        n: Number of items.
    """

    seed: float
    noise: float
    item: float
    reps: float
    trained: int
    df_seed: int
    n: int

    @property
    def by_seed(self) -> float:
        """Squared standard error that comes from seeds."""
        return self.seed * self.reps

    @property
    def by_item(self) -> float:
        """Squared standard error that comes from items, beyond what the seeds explain."""
        return self.item / self.n

    def half_width(self, alpha: float) -> float:
        """Return half the (1 - alpha) interval: parts times their t factors, in quadrature."""
        seeds = t_critical(alpha, self.df_seed) ** 2 * self.by_seed if self.by_seed else 0.0
        items = t_critical(alpha, self.n - 1) ** 2 * self.by_item if self.by_item else 0.0
        return math.sqrt(seeds + items)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean or a difference with its interval.

    Attributes:
        value: None when no item was usable.
        low: Lower end. It, `high` and `parts` are None when no interval can be given (a trained arm
            with one seed, fewer than two items).
        high: Upper end.
        seeds: Number of seeds per arm.
        items: Items used.
        excluded: Items with a nan in any arm.
        parts: The parts of the variance.
    """

    value: float | None
    low: float | None
    high: float | None
    seeds: tuple[int, ...]
    items: int
    excluded: int
    parts: Parts | None = None

    @property
    def p(self) -> float | None:
        """Two-sided p value against 0, at least 1e-12: the alpha whose interval just touches 0."""
        if self.parts is None or self.value is None:
            return None
        if self.parts.by_seed + self.parts.by_item == 0.0:  # no item differs: the sign test
            return 1.0 if self.value == 0.0 else min(1.0, max(_LEAST_P, 2.0 * 0.5**self.items))
        low, high = math.log(_LEAST_P), 0.0
        while high - low > 1e-9:
            middle = 0.5 * (low + high)
            touches = self.parts.half_width(math.exp(middle)) >= abs(self.value)
            low, high = (middle, high) if touches else (low, middle)
        return math.exp(0.5 * (low + high)) if high < 0.0 else 1.0


def mean(values: Floats, *, alpha: float = 0.05, fixed: bool = False) -> Estimate:
    """Estimate the mean of one arm `values` [s, n], with a (1 - alpha) interval.

    The formula is that of `difference` with one arm: item = max(0, var_i(a_i) - noise / S). A
    `fixed` arm is deterministic: it has one row, and only its items vary.
    """
    return _contrast([_arm(values, 1.0, fixed)], alpha)


def difference(
    a: Floats, b: Floats, *, alpha: float = 0.05, fixed: tuple[bool, bool] = (False, False)
) -> Estimate:
    """Estimate the difference a - b of two arms, with a (1 - alpha) t interval.

    A trained arm with one seed gets no interval at all, because its spread over seeds is unknown.

        value    = mean over seeds and items of a, minus that of b
        seed     = variance of the seed means within arms, pooled over the arms
        noise    = residual mean square of seeds x items within arms, pooled
        item     = max(0, var_i(a_i - b_i) - noise * reps)      a_i, b_i: means over seeds
        reps     = 1/S_a + 1/S_b                                (0 for a fixed arm)
        half     = sqrt(t(df_seed)^2 * seed * reps + t(n - 1)^2 * item / n)

    Why these parts. The seed means already vary by noise / n, so the noise is inside `seed`;
    counting var_i(a_i - b_i) in full would count it twice, which is why only the part above
    noise * reps (the arm x item interaction) is added. Item difficulty cancels in the difference.
    Pooling over the arms doubles the degrees of freedom where they are scarcest: at two seeds the
    factor is 4.3 and not 12.7. Each part keeps its own t factor (S_a + S_b - 2 and n - 1 degrees)
    because Welch-Satterthwaite degrees, estimated from two seeds, give false alarms up to 8% of the
    time. With no interaction this is the two-sample t test on seed means, exact at any number of
    seeds. The sign flips with the arms; the order of seeds and items does not matter.

    Args:
        a: First arm [s, n].
        b: Second arm [s', n], on the same items; items with a nan in either are left out.
        alpha: The interval has confidence 1 - alpha.
        fixed: Whether `a` and `b` are deterministic (an untrained model): one row, no seed part.

    Raises:
        ValueError: The shapes do not fit.
    """
    return _contrast([_arm(a, 1.0, fixed[0]), _arm(b, -1.0, fixed[1])], alpha)


def contrast(
    arms: Sequence[Floats],
    weights: Sequence[float],
    *,
    fixed: Sequence[bool] | None = None,
    alpha: float = 0.05,
) -> Estimate:
    """Estimate a weighted sum of arm means, with a (1 - alpha) t interval.

    `difference` is the contrast of weights 1 and -1, and its formula holds with reps = the sum of
    weight^2 / S over the arms that have seeds.

    Args:
        arms: Arms [s, n] on the same n items.
        weights: One weight per arm; arms of weight 0 are left out.
        fixed: Which arms are deterministic; none by default.
        alpha: The interval has confidence 1 - alpha.

    Raises:
        ValueError: No weight differs from 0, or the shapes do not fit.
    """
    marks = [False] * len(arms) if fixed is None else fixed
    given = [_arm(*one) for one in zip(arms, weights, marks, strict=True) if one[1] != 0.0]
    if not given:
        raise ValueError("a contrast needs an arm whose weight is not 0")
    return _contrast(given, alpha)


def inside(estimate: Estimate, margin: float) -> bool:
    """Return whether the interval lies strictly inside (-margin, +margin): equivalence."""
    if estimate.low is None or estimate.high is None:
        return False
    return -margin < estimate.low and estimate.high < margin


@dataclass(frozen=True, slots=True)
class _Arm:
    values: Floats  # [s, n]
    weight: float
    fixed: bool

    @property
    def unseen(self) -> bool:
        """Trained once: its spread over seeds is unknown."""
        return len(self.values) < 2 and not self.fixed


def _arm(values: Floats, weight: float, fixed: bool) -> _Arm:
    return _Arm(np.asarray(values, dtype=np.float64), weight, fixed)


def _contrast(arms: list[_Arm], alpha: float) -> Estimate:
    _check(arms)
    usable = np.all([np.isfinite(arm.values).all(axis=0) for arm in arms], axis=0)
    kept = [replace(arm, values=arm.values[:, usable]) for arm in arms]
    n, excluded = int(usable.sum()), int((~usable).sum())
    seeds = tuple(len(arm.values) for arm in kept)
    if n == 0:
        return Estimate(None, None, None, seeds, n, excluded)
    per_item: Floats = np.sum([arm.weight * arm.values.mean(axis=0) for arm in kept], axis=0)
    # from whole means, so that arms with as many right answers differ by exactly 0
    value = sum(arm.weight * float(arm.values.mean()) for arm in kept)
    if n < 2 or any(arm.unseen for arm in kept):
        return Estimate(value, None, None, seeds, n, excluded)
    parts = _parts(kept, per_item)
    binary = all(np.isin(arm.values, (0.0, 1.0)).all() for arm in kept)
    half = parts.half_width(alpha)
    # No spread at all is an accident of few items, never knowledge. For a 0/1 metric take the exact
    # bound on the share of a kind of item that was not met once among n.
    if half == 0.0 and binary:
        half = 1.0 - (alpha / 2.0) ** (1.0 / n)
    low, high = value - half, value + half
    if binary:  # what no shares in [0, 1] could add up to is impossible
        weights = [arm.weight for arm in arms]
        low = max(low, sum(min(weight, 0.0) for weight in weights))
        high = min(high, sum(max(weight, 0.0) for weight in weights))
    return Estimate(value, low, high, seeds, n, excluded, parts)


def _parts(arms: list[_Arm], per_item: Floats) -> Parts:
    trained = [arm.values for arm in arms if not arm.fixed]
    n = per_item.size
    df_seed = sum(len(values) - 1 for values in trained)
    reps = sum(arm.weight**2 / len(arm.values) for arm in arms if not arm.fixed)
    seed = sum(sum_of_squares(values.mean(axis=1)) for values in trained) / max(df_seed, 1)
    noise = sum(sum_of_squares(residual(values)) for values in trained) / (
        max(df_seed, 1) * (n - 1)
    )
    spread = sum_of_squares(per_item) / (n - 1)
    item = max(0.0, spread - noise * reps)
    if seed * reps + item <= _ROUNDING * spread:
        item = spread  # seed means equal by accident: then the items alone speak
    return Parts(seed, noise, item, reps, len(trained), df_seed, n)


def sum_of_squares(values: Floats) -> float:
    """Return the sum of squares around the mean; exactly 0 for equal values, despite rounding."""
    flat = values.ravel()
    return 0.0 if flat.size == 0 or np.ptp(flat) == 0 else float(((flat - flat.mean()) ** 2).sum())


def residual(values: Floats) -> Floats:
    """Return values [s, n] without their seed means and item means."""
    left: Floats = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0)
    left += values.mean()
    return left


def _check(arms: list[_Arm]) -> None:
    for arm in arms:
        if arm.values.ndim != 2 or not len(arm.values):
            raise ValueError(f"an arm is a matrix [seeds, items], not shape {arm.values.shape}")
        if arm.fixed and len(arm.values) != 1:
            raise ValueError(f"a deterministic arm has one row, not {len(arm.values)}")
    counts = sorted({arm.values.shape[1] for arm in arms})
    if len(counts) > 1:
        raise ValueError(f"the arms must have the same items; they have {counts}")
