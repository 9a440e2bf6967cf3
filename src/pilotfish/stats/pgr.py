"""Performance gap recovered (PGR): its value, its interval, and when it must not be a number.

With W, S, C the means of the weak model, of the strong model taught by it (the student) and of the
strong model taught by gold labels (the ceiling), higher better:

    PGR = (S - W) / (C - W)                                    Burns et al. 2023, arXiv:2312.09390
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.bootstrap import BLOCK, replicates
from pilotfish.stats.fieller import Moments, fieller, moments
from pilotfish.stats.interval import Estimate, difference

Floats = NDArray[np.float64]
Triple = tuple[Floats, Floats, Floats]  # weak, strong, ceiling: each [seeds, items]

NOT_ABOVE = "the ceiling is not above the weak model"
ONE_SEED = "an arm trained with one seed shows no spread: at least 2 seeds, better 3, are needed"
NO_ITEMS = "fewer than 2 test rows were judged for every arm and seed"
UNBOUNDED = "the interval of the PGR has no end: the gap is too uncertain"
_ROUNDING = 1e-12  # a gap that is min_gap but for its last digits is not below it


@dataclass(frozen=True, slots=True)
class PGR:
    """One PGR, or why there is none.

    All but the means and the gap are None where not `defined`.

    Attributes:
        raw: May be below 0 or above 1.
        clamped: `raw` cut to [0, 1].
        low: Lower end of the interval of `raw`; `high` is the upper end.
        boot_low: The same by the joint percentile bootstrap, which is too narrow with few seeds;
            `boot_high` is its upper end. None where draws=0.
        gap: ceiling - weak, positive where the ceiling is better whichever way the metric points.
        gap_low: Lower end of the interval of the gap; `gap_high` is the upper end.
        weak: Mean of the weak model, as measured; `strong` and `ceiling` likewise.
        defined: Whether there is a PGR.
        why: Why there is none; "" where there is one.
        seeds: Number of seeds of the three arms.
        items: Items used.
        excluded: Items with a nan in any arm.
    """

    raw: float | None
    clamped: float | None
    low: float | None
    high: float | None
    boot_low: float | None
    boot_high: float | None
    gap: float | None
    gap_low: float | None
    gap_high: float | None
    weak: float | None
    strong: float | None
    ceiling: float | None
    defined: bool
    why: str
    seeds: tuple[int, int, int]
    items: int
    excluded: int

    def __str__(self) -> str:
        """`0.75 [0.61, 0.90]`, or `undefined: why`."""
        if self.raw is None:
            return f"undefined: {self.why}"
        if self.low is None or self.high is None:
            return f"{self.raw:.2f}"
        return f"{self.raw:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, slots=True)
class Pooled:
    """PGR over tasks.

    It has a median and the PGR of the means, because a median hides a task whose sign is flipped.

    Attributes:
        tasks: The PGR of each task.
        median: Of the tasks with a PGR; None where no task has one.
        of_means: PGR of the means over tasks.
        undefined: Names of the tasks without a PGR.
    """

    tasks: dict[str, PGR]
    median: float | None
    of_means: PGR
    undefined: tuple[str, ...]


def pgr(
    weak: Floats,
    strong: Floats,
    ceiling: Floats,
    *,
    higher_is_better: bool = True,
    min_gap: float = 0.02,
    draws: int = 10_000,
    seed: int = 0,
    alpha: float = 0.05,
    fixed: tuple[bool, bool, bool] = (False, False, False),
) -> PGR:
    """Estimate the PGR of three arms on the same items, with a (1 - alpha) interval.

    The PGR is undefined, never a number, where C <= W, where C - W < `min_gap`, where the interval
    of C - W covers 0, and where no interval can be given. The interval is Fieller's: all r for
    which the contrast S + (r - 1) W - r C does not differ from 0, over seeds and items.

    Args:
        weak: The weak model [seeds, items]; the arms may differ in their number of seeds.
        strong: The student, on the same items.
        ceiling: The strong model trained on gold labels, on the same items.
        higher_is_better: Which way the metric points.
        min_gap: Least C - W, in units of the metric.
        draws: Replicates of the bootstrap, a second interval (items drawn once for all arms, then
            the seeds of each arm); 0 for none.
        seed: Seed of the bootstrap.
        alpha: The intervals have confidence 1 - alpha.
        fixed: Which of the arms no seed changes (a given weak model: one row).

    Raises:
        ValueError: The shapes do not fit.
    """
    rules = _Rules(higher_is_better, min_gap, draws, seed, alpha, fixed)
    return _pgr([_task((weak, strong, ceiling), rules)], rules)


def pooled(
    tasks: Mapping[str, Triple],
    *,
    higher_is_better: bool = True,
    min_gap: float = 0.02,
    draws: int = 10_000,
    seed: int = 0,
    alpha: float = 0.05,
    fixed: tuple[bool, bool, bool] = (False, False, False),
) -> Pooled:
    """Estimate the PGR of every task, their median, and the PGR of the means over tasks.

    The tasks share no items, so their variances add.

    Args:
        tasks: Name -> (weak, strong, ceiling), each [seeds, items].
        higher_is_better: This and the other arguments are those of `pgr`.
        min_gap: Least C - W, in units of the metric.
        draws: Replicates of the bootstrap.
        seed: Seed of the bootstrap.
        alpha: The intervals have confidence 1 - alpha.
        fixed: Which of the arms no seed changes.

    Raises:
        ValueError: There is no task, or the shapes do not fit.
    """
    if not tasks:
        raise ValueError("there is no task to pool")
    rules = _Rules(higher_is_better, min_gap, draws, seed, alpha, fixed)
    read = {name: _task(tasks[name], rules) for name in sorted(tasks)}
    each = {name: _pgr([task], rules) for name, task in read.items()}
    known = [one.raw for one in each.values() if one.raw is not None]
    return Pooled(
        each,
        median(known) if known else None,
        _pgr(list(read.values()), rules),
        tuple(name for name, one in each.items() if not one.defined),
    )


@dataclass(frozen=True, slots=True)
class _Rules:
    higher: bool
    min_gap: float
    draws: int
    seed: int
    alpha: float
    fixed: tuple[bool, bool, bool]


@dataclass(frozen=True, slots=True)
class _Task:
    """Three arms on their common usable items, signed so that higher is better."""

    arms: tuple[Floats, Floats, Floats]
    gap: Estimate
    excluded: int

    @property
    def items(self) -> int:
        return int(self.arms[0].shape[1])


def _task(triple: Triple, rules: _Rules) -> _Task:
    """Prepare three arms; raise ValueError unless they are matrices of the same items."""
    weak, strong, ceiling = (np.asarray(arm, dtype=np.float64) for arm in triple)
    difference(strong, weak, fixed=(rules.fixed[1], rules.fixed[0]))  # checks the shapes
    difference(strong, ceiling, fixed=(rules.fixed[1], rules.fixed[2]))
    usable = np.all([np.isfinite(arm).all(axis=0) for arm in (weak, strong, ceiling)], axis=0)
    sign = 1.0 if rules.higher else -1.0
    arms = (sign * weak[:, usable], sign * strong[:, usable], sign * ceiling[:, usable])
    better, worse = (2, 0) if rules.higher else (0, 2)  # a share stays a share: never negated
    gap = difference(
        *((weak, strong, ceiling)[at][:, usable] for at in (better, worse)),
        alpha=rules.alpha,
        fixed=(rules.fixed[better], rules.fixed[worse]),
    )
    return _Task(arms, gap, int((~usable).sum()))


def _pgr(tasks: Sequence[_Task], rules: _Rules) -> PGR:
    arms = tasks[0].arms
    seeds = (len(arms[0]), len(arms[1]), len(arms[2]))
    items, excluded = sum(task.items for task in tasks), sum(task.excluded for task in tasks)
    if min(task.items for task in tasks) == 0:
        nothing = (None,) * 12
        return PGR(*nothing, False, NO_ITEMS, seeds, items, excluded)
    weak, strong, ceiling = np.mean([[arm.mean() for arm in task.arms] for task in tasks], axis=0)
    gap = float(ceiling - weak)
    around = _gap_reach(tasks, gap)
    reach = None
    why = _why_undefined(tasks, gap, around, rules)
    if not why:
        reach = _reach(tasks, rules)
        why = "" if reach else UNBOUNDED
    low, high = reach or (None, None)
    raw = float((strong - weak) / gap) if reach else None
    boot_low, boot_high = _bootstrap(tasks, rules) if reach and rules.draws else (None, None)
    sign = 1.0 if rules.higher else -1.0
    return PGR(
        raw=raw,
        clamped=None if raw is None else min(1.0, max(0.0, raw)),
        low=low,
        high=high,
        boot_low=boot_low,
        boot_high=boot_high,
        gap=gap,
        gap_low=around[0] if around else None,
        gap_high=around[1] if around else None,
        weak=sign * float(weak),
        strong=sign * float(strong),
        ceiling=sign * float(ceiling),
        defined=not why,
        why=why,
        seeds=seeds,
        items=items,
        excluded=excluded,
    )


def _gap_reach(tasks: Sequence[_Task], gap: float) -> tuple[float, float] | None:
    """Return the interval of the mean gap over tasks; None where a task has none."""
    halves: list[float] = []
    for each in (task.gap for task in tasks):
        if each.value is None or each.low is None or each.high is None:
            return None
        if len(tasks) == 1:
            return each.low, each.high
        halves.append(max(each.high - each.value, each.value - each.low))  # an end may be cut
    half = math.hypot(*halves) / len(halves)
    return gap - half, gap + half


def _why_undefined(
    tasks: Sequence[_Task], gap: float, around: tuple[float, float] | None, rules: _Rules
) -> str:
    """Return the first reason why the PGR is undefined; "" where it is defined."""
    if min(task.items for task in tasks) < 2:
        return NO_ITEMS
    if gap <= 0.0:
        return NOT_ABOVE
    once = any(
        len(arm) < 2 and not fixed
        for task in tasks
        for arm, fixed in zip(task.arms, rules.fixed, strict=True)
    )
    if around is None or once:
        return ONE_SEED
    if around[0] <= 0.0:
        return f"the gap's interval [{around[0]:.3f}, {around[1]:.3f}] covers 0"
    if gap < rules.min_gap - _ROUNDING:
        return f"the gap {gap:.3g} is below min_gap {rules.min_gap:g}"
    return ""


def _reach(tasks: Sequence[_Task], rules: _Rules) -> tuple[float, float] | None:
    """Return Fieller's interval, or an exact bound where student and weak agree on every item."""
    known: list[Moments] = [moments(task.arms, rules.fixed) for task in tasks]
    found = fieller(known, rules.alpha)
    binary = all(np.isin(np.abs(arm), (0.0, 1.0)).all() for task in tasks for arm in task.arms)
    if found is None or not binary or found[1] - found[0] > _ROUNDING:
        return found
    gap = float(np.mean([one.means[2] - one.means[0] for one in known]))
    items = sum(task.items for task in tasks)
    unseen = (1.0 - (rules.alpha / 2.0) ** (1.0 / items)) / gap
    return found[0] - unseen, found[1] + unseen


def _bootstrap(tasks: Sequence[_Task], rules: _Rules) -> tuple[float | None, float | None]:
    """Return percentiles of the joint, hierarchical bootstrap; None where replicates lose the gap.

    Each replicate draws the items of a task once for all arms and seeds, then each arm's seeds.
    """
    rng, found = np.random.default_rng(rules.seed), []
    for start in range(0, rules.draws, BLOCK):
        size = min(BLOCK, rules.draws - start)
        drawn = np.mean([replicates(task.arms, size, rng) for task in tasks], axis=0)  # [3, size]
        gap = drawn[2] - drawn[0]
        found.append(
            np.divide(drawn[1] - drawn[0], gap, out=np.full(size, np.nan), where=gap > 0.0)
        )
    ratios = np.concatenate(found)
    if np.isnan(ratios).mean() > rules.alpha / 2.0:
        return None, None
    low, high = np.nanquantile(ratios, [rules.alpha / 2.0, 1.0 - rules.alpha / 2.0])
    return float(low), float(high)
