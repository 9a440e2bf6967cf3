"""The models a run trains and judges, counted as the run itself counts them, with their rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pilotfish.budget import parse_budget, resolve, take
from pilotfish.config import Recipe, TrainConfig
from pilotfish.flows.arms import Arm
from pilotfish.flows.plan_data import Holding
from pilotfish.flows.plan_tokens import Lengths
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
    """What the jobs are made from. trusted: their lengths; scores [m] of the rows of `lengths`."""

    recipe: Recipe
    holding: Holding
    lengths: Lengths
    trusted: Ints
    scores: Floats | None = None  # higher is picked sooner; nan: never

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
    from pilotfish.train import plan_steps

    recipe = grounds.recipe
    rows = budget_rows(grounds, recipe.budget)
    steps = plan_steps(rows, recipe.train)
    return [
        _job(grounds, arm, seed, rows, steps)
        for seed in range(seeds)
        for arm in arms
        if seed == 0 or arm.trained or (arm.name == "weak" and len(grounds.trusted))
    ]


def _job(grounds: Grounds, arm: Arm, seed: int, picked: int, steps: int) -> Job:
    config = arm.config(grounds.recipe.train)
    if not arm.trained:
        return Job(arm, seed, 0, np.zeros(0, np.int64), 0, config)
    of_pool = {"none": 0, "selection": picked}.get(arm.rows, grounds.pool)
    gold = grounds.trusted if arm.trusted else grounds.trusted[:0]
    lengths = _mixed(_lengths(grounds, arm, of_pool), of_pool, gold)
    return Job(arm, seed, of_pool + len(gold), lengths, steps, config)


def _lengths(grounds: Grounds, arm: Arm, rows: int) -> Ints:
    """Lengths [k] of the rows at hand that such an arm learns, as far as can be known."""
    known = grounds.lengths.strong
    if arm.rows != "selection" or arm.selection.startswith("random"):
        return known
    count = max(1, round(rows / grounds.pool * len(known)))
    if arm.selection.startswith("longest"):
        return known[np.argsort(-grounds.lengths.response, kind="stable")[:count]]
    if grounds.scores is None:
        return known
    order = np.argsort(-np.nan_to_num(grounds.scores, nan=-np.inf), kind="stable")
    usable = order[np.isfinite(grounds.scores[order])]
    return known[usable[:count]] if len(usable) else known


def _mixed(pool: Ints, rows: int, gold: Ints) -> Ints:
    """Lengths of `rows` rows like these and of all trusted ones, in their shares."""
    if not len(gold):
        return pool
    if not rows:
        return gold
    each = max(1, round(len(gold) * len(pool) / rows))
    return np.concatenate([pool, np.resize(gold, each)])
