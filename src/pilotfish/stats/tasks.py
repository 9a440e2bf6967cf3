"""The macro-average difference over several tasks, and a fixed split of items into halves."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.interval import Estimate, Parts, difference

Floats = NDArray[np.float64]

_ROUNDING = 1e-9  # a share of the spread over items below which a variance is rounding


@dataclass(frozen=True, slots=True)
class _Task:
    """One task: its arms a and b on their usable items, and their difference there."""

    arms: tuple[Floats, Floats]
    found: Estimate


def macro(
    pairs: Sequence[tuple[Floats, Floats]],
    *,
    alpha: float = 0.05,
    fixed: tuple[bool, bool] = (False, False),
) -> Estimate:
    """Estimate the mean over tasks of the differences a - b, with equal weights and an interval.

    Inference is to new seeds and new items of these T tasks, not to new tasks:

        seed     = variance within arms of the seeds' macro means, pooled over the arms
        by_seed  = seed * (1/S_a + 1/S_b)
        by_item  = sum over tasks of item_t / n_t, divided by T^2     (item_t: see `difference`)
        half     = sqrt(t(df_seed)^2 * by_seed + t(N - 1)^2 * by_item),  N items in all

    A seed that is bad at one task tends to be bad at others. Macro means per seed include that;
    adding the tasks' own intervals in quadrature would not.

    Args:
        pairs: (a [s, n_t], b [s', n_t]) of each task, with the same seeds in the same order in
            every task (a seed is one trained model, evaluated on all tasks).
        alpha: The interval has confidence 1 - alpha.
        fixed: Whether the arms a and b are deterministic.

    Returns:
        The estimate; no interval where a task has none, value None where a task has no usable item.
        In `parts`, item and noise are scaled so that with n = the sum of items over tasks they give
        the parts above.

    Raises:
        ValueError: There is no task, or the shapes do not fit.
    """
    tasks = [_task(a, b, alpha, fixed) for a, b in pairs]
    _check(tasks)
    seeds = tasks[0].found.seeds
    items = sum(one.found.items for one in tasks)
    excluded = sum(one.found.excluded for one in tasks)
    values = [one.found.value for one in tasks if one.found.value is not None]
    if len(values) < len(tasks):
        return Estimate(None, None, None, seeds, items, excluded)
    value = float(np.mean(values))
    if any(one.found.parts is None for one in tasks):
        return Estimate(value, None, None, seeds, items, excluded)
    parts = _parts(tasks, fixed)
    half = parts.half_width(alpha) or _unseen(tasks)
    return Estimate(value, *_cut(value, half, tasks), seeds, items, excluded, parts)


def _cut(value: float, half: float, tasks: Sequence[_Task]) -> tuple[float, float]:
    """Return the interval, cut to [-1, 1] where every value is 0 or 1."""
    binary = all(np.isin(arm, (0.0, 1.0)).all() for one in tasks for arm in one.arms)
    low, high = value - half, value + half
    return (max(low, -1.0), min(high, 1.0)) if binary else (low, high)


def halves(ids: Sequence[str], salt: str = "") -> NDArray[np.bool_]:
    """Return the half of each item [n], from a hash of `salt` and its id alone.

    An item therefore keeps its half whatever other items there are and in whatever order, and the
    halves are only about equal.
    """
    return np.array([_odd(f"{salt}\0{one}") for one in ids], dtype=np.bool_)


def _odd(text: str) -> bool:
    return bool(hashlib.sha256(text.encode()).digest()[0] & 1)


def _task(a: Floats, b: Floats, alpha: float, fixed: tuple[bool, bool]) -> _Task:
    found = difference(a, b, alpha=alpha, fixed=fixed)  # checks the shapes
    usable = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
    return _Task((np.asarray(a)[:, usable], np.asarray(b)[:, usable]), found)


def _check(tasks: Sequence[_Task]) -> None:
    if not tasks:
        raise ValueError("there is no task to average")
    seeds = sorted({one.found.seeds for one in tasks})
    if len(seeds) > 1:
        raise ValueError(f"every task needs the same seeds of each arm; they have {seeds}")


def _parts(tasks: Sequence[_Task], fixed: tuple[bool, bool]) -> Parts:
    """Return the variance parts of the macro mean; every task has parts of its own."""
    known = [one.found.parts for one in tasks if one.found.parts is not None]
    n, first = sum(one.n for one in known), known[0]
    noise = sum(one.noise / one.n for one in known) / len(known) ** 2
    item = sum(one.item / one.n for one in known) / len(known) ** 2
    seed = _seed(tasks, fixed, first.df_seed)
    if seed * first.reps + item <= _ROUNDING * noise * first.reps:
        item = noise * first.reps  # macro means equal by accident: then the items alone speak
    return Parts(seed, noise * n, item * n, first.reps, first.trained, first.df_seed, n)


def _seed(tasks: Sequence[_Task], fixed: tuple[bool, bool], df: int) -> float:
    """Return the variance of one seed's macro mean around its arm, pooled over trained arms."""
    squares = 0.0
    for side in (side for side in (0, 1) if not fixed[side]):
        means = np.mean([one.arms[side].mean(axis=1) for one in tasks], axis=0)  # [s]
        squares += float(((means - means.mean()) ** 2).sum())
    return squares / max(df, 1)


def _unseen(tasks: Sequence[_Task]) -> float:
    """Return the mean of the tasks' exact bounds, for arms without any difference of items."""
    return float(np.mean([_half(one.found) for one in tasks]))


def _half(found: Estimate) -> float:
    """Return the longer side of an interval, because one end may be cut."""
    assert found.value is not None and found.low is not None and found.high is not None
    return max(found.high - found.value, found.value - found.low)
