"""How many random rows do the work of k selected ones: the data-efficiency factor.

    E(k) = n_rand(P_sel(k)) / k

P_sel(k): mean of the arm trained on k selected rows. n_rand(p): the fewest random rows whose curve
reaches p; the curve is made monotone first and is linear in log rows between its budgets. A factor
of 3 at 1,000 rows says: 3,000 random rows would have been needed for the same result.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.fieller import moments
from pilotfish.stats.interval import difference
from pilotfish.stats.pgr import ONE_SEED

Floats = NDArray[np.float64]
Censored = Literal["", "above", "below"]

NO_ITEMS = "fewer than 2 test rows were judged for every arm and seed"
_BLOCK = 500  # bootstrap replicates drawn at once, so that memory stays at _BLOCK x n counts
_ROUNDING = 1e-12
_GRID = 64  # places looked at between two budgets, evenly in log rows


@dataclass(frozen=True, slots=True)
class Efficiency:
    """A factor, or its bound where the random curve does not meet the selected arm.

    censored: "above": the random curve never gets there, so the factor is above `value`; "below":
    it is better already at its fewest rows, so the factor is below `value`; "" where they meet.
    value: None when no item was usable. low, high: the interval; None on a side where the
    curve ends before the interval does (the factor may lie anywhere beyond). boot_low, boot_high:
    percentiles of the hierarchical bootstrap, a second opinion that is too narrow with few seeds.
    why: "" or why there is no interval at all (then all four ends are None).
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
    """The factor at `at` rows (one of `rows`), from arms [seeds, items] at each of the budgets.

    rows: row counts, ascending; picked[j] and random[j]: the arms trained on rows[j] rows, all
    judged on the same items; seeds may differ in number. Only random arms and the picked arm of
    `at` are read. The interval holds every n at which `stats.difference`'s model does not tell
    the selected arm from the random curve, seeds and items both in it (an interval by inversion,
    as Fieller's). ValueError on rows not ascending or arms that do not fit.
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
    """The non-decreasing curve [m] nearest to `values` [m] in weighted squares.

    Pool adjacent violators: neighbours in the wrong order are replaced by their weighted mean.
    Source: Ayer et al. 1955.
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, how many values
    for value, weight in zip(values, weights, strict=True):
        blocks.append((float(value), float(weight), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            blocks.append(_merged(blocks.pop(), blocks.pop()))
    return np.repeat([one[0] for one in blocks], [one[2] for one in blocks])


def reached(rows: Floats, curve: Floats, target: float) -> tuple[float, Censored]:
    """The fewest rows at which a non-decreasing curve [m] reaches `target`, or its last budget.

    Linear in log rows between the budgets.
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
    """The arms [s, n] on the items that no arm lacks."""
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
    """The monotone random curve; each budget weighs as many seeds as it has."""
    return isotonic(
        np.array([arm.mean() for arm in arms[1:]]), np.array([float(len(arm)) for arm in arms[1:]])
    )


def _inverted(
    rows: Sequence[int], arms: Sequence[Floats], found: tuple[float, Censored], alpha: float
) -> tuple[float | None, float | None]:
    """Ends, in rows, of the set of n that survive, `found` among them; None where it is open."""
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
    """Row counts along the random curve, and whether the picked arm may be as good as there."""
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
    """Whether picked - (1 - share) lower - share upper is not told from 0, as a function."""
    known = moments((picked, lower, upper), (False, False, False))

    def survives(share: float) -> bool:
        weights = np.array([1.0, share - 1.0, -share])
        return abs(float(weights @ known.means)) <= known.pooled_half(weights, alpha)

    return survives


def _bootstrap(
    rows: Sequence[int], arms: Sequence[Floats], draws: int, seed: int, alpha: float
) -> tuple[float | None, float | None]:
    """Percentiles, in rows, over replicates; None where they fall among censored replicates."""
    rng = np.random.default_rng(seed)
    found: list[float] = []
    weights, places = np.array([float(len(arm)) for arm in arms[1:]]), np.array(rows, float)
    for start in range(0, draws, _BLOCK):
        for means in replicates(arms, min(_BLOCK, draws - start), rng).T:
            n, censored = reached(places, isotonic(means[1:], weights), float(means[0]))
            found.append({"": n, "above": np.inf, "below": 0.0}[censored])
    ordered = sorted(found)
    skip = int(alpha / 2.0 * (len(ordered) - 1))
    return _inner(ordered[skip]), _inner(ordered[-1 - skip])


def _inner(end: float) -> float | None:
    return end if 0.0 < end < np.inf else None


def replicates(arms: Sequence[Floats], size: int, rng: np.random.Generator) -> Floats:
    """[arms, size] means: the items are drawn once for all arms, then the seeds of each arm."""
    n = arms[0].shape[1]
    counts = rng.multinomial(n, np.full(n, 1 / n), size=size)  # [size, n] how often each item
    means = []
    for arm in arms:
        picked = rng.integers(len(arm), size=(size, len(arm)))
        means.append(np.take_along_axis(counts @ arm.T / n, picked, axis=1).mean(axis=1))
    return np.stack(means)
