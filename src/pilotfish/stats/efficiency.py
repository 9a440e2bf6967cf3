"""The data-efficiency factor: how many random rows replace k selected ones.

    E(k) = n_rand(P_sel(k)) / k

P_sel(k): mean of the arm trained on k selected rows. n_rand(p): the fewest random rows whose curve
reaches p; the curve is made monotone first and is linear in log rows between its budgets. With a
factor of 3 at 1,000 rows, the same result would have needed 3,000 random rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.bootstrap import BLOCK, replicates
from pilotfish.stats.fieller import moments
from pilotfish.stats.interval import difference
from pilotfish.stats.pgr import ONE_SEED

Floats = NDArray[np.float64]
Censored = Literal["", "above", "below"]

NO_ITEMS = "fewer than 2 test rows were judged for every arm and seed"
_ROUNDING = 1e-12
_GRID = 64  # row counts tested between two budgets, evenly in log rows


@dataclass(frozen=True, slots=True)
class Efficiency:
    """A factor, or its bound where the random curve does not meet the selected arm.

    Attributes:
        value: None when no item was usable.
        censored: "above" where the random curve never reaches the arm, so the factor is above
            `value`; "below" where it is better already at its fewest rows; "" where they meet.
        low: Lower end of the interval; None where the curve ends first, so that the factor may lie
            anywhere below.
        high: Upper end, likewise.
        boot_low: Lower percentile of the hierarchical bootstrap, too narrow with few seeds.
        boot_high: Upper percentile.
        why: Why there is no interval at all (then all four ends are None); else "".
    """

    value: float | None
    censored: Censored
    low: float | None
    high: float | None
    boot_low: float | None
    boot_high: float | None
    why: str = ""


def efficiency(
    rows: Sequence[int],
    picked: Sequence[Floats],
    random: Sequence[Floats],
    at: int,
    *,
    higher_is_better: bool = True,
    draws: int = 2_000,
    seed: int = 0,
    alpha: float = 0.05,
) -> Efficiency:
    """Estimate the factor at one budget, with an interval.

    The interval contains every n at which the selected arm does not differ from the random curve
    by the model of `stats.difference`, over seeds and items (an interval by inversion, as
    Fieller's). Only the random arms and the selected arm of `at` are read.

    Args:
        rows: Row counts, ascending.
        picked: Selected arms [seeds, items], one per row count; seeds may differ in number.
        random: Random arms, one per row count, on the same items.
        at: The row count to estimate the factor at, one of `rows`.
        higher_is_better: Which way the metric points.
        draws: Replicates of the bootstrap; 0 for none.
        seed: Seed of the bootstrap.
        alpha: The intervals have confidence 1 - alpha.

    Raises:
        ValueError: The rows do not ascend, `at` is none of them, or the arms do not fit.
    """
    _check(rows, picked, random)
    if at not in rows:
        raise ValueError(f"no arm was trained on {at} rows; there are {list(rows)}")
    sign = 1.0 if higher_is_better else -1.0
    arms = usable([sign * picked[list(rows).index(at)], *(sign * one for one in random)])
    if arms[0].shape[1] == 0:
        return Efficiency(None, "", None, None, None, None, NO_ITEMS)
    n, censored = reached(np.array(rows, float), _curve(arms), float(arms[0].mean()))
    why = _no_interval(arms)
    if why:
        return Efficiency(n / at, censored, None, None, None, None, why)
    low, high = _inverted(rows, arms, (n, censored), alpha)
    ends = _bootstrap(rows, arms, draws, seed, alpha) if draws else (None, None)
    low, high, boot_low, boot_high = (_per(end, at) for end in (low, high, *ends))
    return Efficiency(n / at, censored, low, high, boot_low, boot_high)


def isotonic(values: Floats, weights: Floats) -> Floats:
    """Return the non-decreasing curve [m] nearest to `values` [m] in squares weighted by `weights`.

    Pool adjacent violators (Ayer et al. 1955): neighbours in the wrong order are replaced by their
    weighted mean.
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, how many values
    for value, weight in zip(values, weights, strict=True):
        blocks.append((float(value), float(weight), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            blocks.append(_merged(blocks.pop(), blocks.pop()))
    return np.repeat([one[0] for one in blocks], [one[2] for one in blocks])


def reached(rows: Floats, curve: Floats, target: float) -> tuple[float, Censored]:
    """Find the fewest rows at which a curve reaches `target`, linear in log rows between budgets.

    Args:
        rows: Row counts [m], ascending.
        curve: Non-decreasing values at them [m].
        target: The value to reach.

    Returns:
        The rows and "", or the last budget and "above", or the first budget and "below".
    """
    gaps = np.abs(curve - target)
    if gaps.min() < _ROUNDING:  # a budget's own mean, but for its last digits
        target = float(curve[gaps.argmin()])
    if target > curve[-1]:
        return float(rows[-1]), "above"
    if target < curve[0]:
        return float(rows[0]), "below"
    j = int(np.searchsorted(curve, target))  # the first budget at or above the target
    if j == 0 or curve[j] == target:
        return float(rows[j]), ""
    share = (target - curve[j - 1]) / (curve[j] - curve[j - 1])
    return float(rows[j - 1] * (rows[j] / rows[j - 1]) ** share), ""


def usable(arms: Sequence[Floats]) -> list[Floats]:
    """Return the arms [s, n] on the items that no arm lacks."""
    matrices = [np.asarray(arm, dtype=np.float64) for arm in arms]
    kept = np.all([np.isfinite(arm).all(axis=0) for arm in matrices], axis=0)
    return [arm[:, kept] for arm in matrices]


def _check(rows: Sequence[int], picked: Sequence[Floats], random: Sequence[Floats]) -> None:
    if not rows or rows[0] < 1 or any(a >= b for a, b in pairwise(rows)):
        raise ValueError(f"row counts must be above 0 and ascending, not {list(rows)}")
    if not len(rows) == len(picked) == len(random):
        raise ValueError(
            f"{len(rows)} row counts need as many arms: {len(picked)} picked, {len(random)} random"
        )
    shapes = {np.shape(arm)[1:] for arm in (*picked, *random)}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        raise ValueError(f"the arms must be [seeds, items] of the same items, not {shapes}")


def _no_interval(arms: Sequence[Floats]) -> str:
    if arms[0].shape[1] < 2:
        return NO_ITEMS
    return ONE_SEED if min(len(arm) for arm in arms) < 2 else ""


def _per(end: float | None, at: int) -> float | None:
    return None if end is None else end / at


def _merged(b: tuple[float, float, int], a: tuple[float, float, int]) -> tuple[float, float, int]:
    weight = a[1] + b[1]
    return (a[0] * a[1] + b[0] * b[1]) / weight, weight, a[2] + b[2]


def _curve(arms: Sequence[Floats]) -> Floats:
    """Return the monotone random curve; each budget is weighted by its number of seeds."""
    return isotonic(
        np.array([arm.mean() for arm in arms[1:]]), np.array([float(len(arm)) for arm in arms[1:]])
    )


def _inverted(
    rows: Sequence[int], arms: Sequence[Floats], found: tuple[float, Censored], alpha: float
) -> tuple[float | None, float | None]:
    """Return the ends, in rows, of the set of n not ruled out; None where it is open."""
    n, censored = found
    alive = [place for place, survives in _places(rows, arms, alpha) if survives]
    alive += [] if censored else [n]
    open_low = censored == "below" or rows[0] in alive
    open_high = censored == "above" or rows[-1] in alive
    low = None if open_low else min(alive, default=float(rows[-1]))
    high = None if open_high else max(alive, default=float(rows[0]))
    return low, high


def _places(
    rows: Sequence[int], arms: Sequence[Floats], alpha: float
) -> Iterator[tuple[float, bool]]:
    """Yield row counts along the random curve, and whether the arm does not differ there."""
    if len(rows) == 1:
        gap = difference(arms[0], arms[1], alpha=alpha)
        yield float(rows[0]), gap.low is None or gap.high is None or gap.low <= 0.0 <= gap.high
    for j in range(len(rows) - 1):
        survives = _survives(arms[0], arms[j + 1], arms[j + 2], alpha)
        for share in np.linspace(0.0, 1.0, _GRID + 1):
            place = rows[j] * (rows[j + 1] / rows[j]) ** share
            yield (float(rows[j + 1]) if share == 1.0 else float(place)), survives(float(share))


def _survives(
    picked: Floats, lower: Floats, upper: Floats, alpha: float
) -> Callable[[float], bool]:
    """Return a test of a share: does picked - (1 - share) lower - share upper not differ from 0?"""
    known = moments((picked, lower, upper), (False, False, False))

    def survives(share: float) -> bool:
        weights = np.array([1.0, share - 1.0, -share])
        return abs(float(weights @ known.means)) <= known.pooled_half(weights, alpha)

    return survives


def _bootstrap(
    rows: Sequence[int], arms: Sequence[Floats], draws: int, seed: int, alpha: float
) -> tuple[float | None, float | None]:
    """Return percentiles in rows; None where they fall among censored replicates."""
    rng = np.random.default_rng(seed)
    found: list[float] = []
    weights, places = np.array([float(len(arm)) for arm in arms[1:]]), np.array(rows, float)
    for start in range(0, draws, BLOCK):
        for means in replicates(arms, min(BLOCK, draws - start), rng).T:
            n, censored = reached(places, isotonic(means[1:], weights), float(means[0]))
            found.append({"": n, "above": np.inf, "below": 0.0}[censored])
    ordered = sorted(found)
    skip = int(alpha / 2.0 * (len(ordered) - 1))
    return _inner(ordered[skip]), _inner(ordered[-1 - skip])


def _inner(end: float) -> float | None:
    return end if 0.0 < end < np.inf else None
