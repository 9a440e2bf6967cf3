"""The models a run trains and judges, listed as the run itself lists them, with their rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pilotfish.arms.arms import Arm
from pilotfish.arms.selections import MAIN, ArmSelections
from pilotfish.budget import parse_budget, resolve, take
from pilotfish.comparison.arm_names import parse_arm_name
from pilotfish.config import Recipe, TrainConfig
from pilotfish.planning.data import Holding
from pilotfish.planning.lengths import Lengths
from pilotfish.records import Floats, Ints


@dataclass(frozen=True)
class Job:
    """One arm with one seed. lengths: tokens of some of its rows, as it trains on them."""

    arm: Arm
    seed: int
    rows: int
    lengths: Ints
    steps: int
    config: TrainConfig

    @property
    def name(self) -> str:
        """As the ledger of a run calls it."""
        return f"{self.arm.name} seed {self.seed}"


@dataclass(frozen=True)
class Grounds:
    """What the jobs are made from.

    trusted: lengths of the trusted rows. scores: selection -> what its method says of the rows at
    hand, [m] higher is picked sooner, nan where unknown. more: the share of training that the
    selection's FLOPs would buy, as `compute_of` counts it.
    """

    recipe: Recipe
    picks: ArmSelections
    holding: Holding
    lengths: Lengths
    trusted: Ints
    scores: Mapping[str, Floats] = field(default_factory=dict)
    more: float = 0.0

    @property
    def pool(self) -> int:
        """Rows to choose from."""
        return self.holding.rows


def budget_rows(grounds: Grounds, text: str) -> int:
    """Rows that a budget buys; for one in tokens about so many.

    UsageError, as `select` would raise it, where the pool is too small.
    """
    budget, allow = parse_budget(text), grounds.recipe.allow_short
    if budget.unit == "rows":
        return len(take(np.arange(grounds.pool), budget, grounds.pool, allow_short=allow))
    each = max(float(grounds.lengths.weak.mean()), 1.0)
    tokens = np.full(grounds.pool, round(each), dtype=np.int64)
    kept = take(np.arange(grounds.pool), budget, grounds.pool, tokens=tokens, allow_short=allow)
    return max(1, min(len(kept), round(resolve(budget, grounds.pool) / each)))


def jobs_of(grounds: Grounds, arms: Sequence[Arm], seeds: int) -> list[Job]:
    """Every model of a comparison, trained or only judged, in the order of a run."""
    return [
        _job(grounds, arm, seed)
        for seed in range(seeds)
        for arm in arms
        if seed == 0 or arm.trained or (arm.name == "weak" and len(grounds.trusted))
    ]


def _job(grounds: Grounds, arm: Arm, seed: int) -> Job:
    config = arm.config(grounds.recipe.train)
    if not arm.trained:
        return Job(arm, seed, 0, np.zeros(0, np.int64), 0, config)
    fair = budget_rows(grounds, grounds.picks.slugs[parse_arm_name(arm.name).budget])
    of_pool = {"none": 0, "selection": _picked(grounds, arm, fair)}.get(arm.rows, grounds.pool)
    gold = grounds.trusted if arm.trusted else grounds.trusted[:0]
    rows = of_pool + len(gold)
    lengths = _mixed(_lengths(grounds, arm, of_pool), of_pool, gold)
    return Job(arm, seed, rows, lengths, _steps(grounds, arm, rows), config)


def _steps(grounds: Grounds, arm: Arm, rows: int) -> int:
    """Of the optimizer: equal ones, or as many as make something else equal."""
    from pilotfish.data_order import plan_steps

    main = budget_rows(grounds, grounds.recipe.budget)
    shared = plan_steps(main, grounds.recipe.train)
    if arm.steps == "equal":
        return shared
    if arm.steps == "compute":
        return max(1, round(shared * (1 + grounds.more)))
    return max(1, math.ceil(shared * rows / main))


def _picked(grounds: Grounds, arm: Arm, fair: int) -> int:
    """Rows of an arm that learns a selection, `fair` being those of the selected one."""
    if arm.steps == "compute":
        return min(round(fair * (1 + grounds.more)), grounds.pool)
    if stem(arm.selection) == "random_tokens":
        own = _ranked(grounds, MAIN, fair)
        usual = float(grounds.lengths.weak.mean())
        return min(round(fair * float(grounds.lengths.weak[own].mean()) / usual), grounds.pool)
    return fair


def stem(selection: str) -> str:
    """What a selection is called at the verdict's budget, whatever the seed."""
    return selection.removesuffix("-{seed}").partition("@")[0]


def _lengths(grounds: Grounds, arm: Arm, rows: int) -> Ints:
    """Lengths [k] of the rows at hand that such an arm learns, as far as can be known."""
    if arm.rows != "selection":
        return grounds.lengths.strong
    return grounds.lengths.strong[_ranked(grounds, stem(arm.selection), rows)]


def _ranked(grounds: Grounds, selection: str, rows: int) -> Ints:
    """Which of the rows at hand a selection of `rows` rows would hold; all where nobody knows."""
    known, scores = grounds.lengths, grounds.scores
    everything = np.arange(len(known.rows))
    if selection == "longest":
        values = known.response.astype(np.float64)
    elif selection == "length_matched":
        values = scores.get(MAIN, np.full(len(everything), np.nan))
    else:
        values = scores.get(selection, np.full(len(everything), np.nan))
    usable = np.flatnonzero(np.isfinite(values))
    if not len(usable):
        return everything
    count = max(1, round(rows / grounds.pool * len(usable)))
    return usable[np.argsort(-values[usable], kind="stable")[:count]]


def _mixed(pool: Ints, rows: int, gold: Ints) -> Ints:
    """Lengths of `rows` rows like these and of all trusted ones, in their shares."""
    if not len(gold):
        return pool
    if not rows:
        return gold
    each = max(1, round(len(gold) * len(pool) / rows))
    return np.concatenate([pool, np.resize(gold, each)])
