"""Would rows be kept, had they been in the pool? Picks made again with rows added. Numpy only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.budget import Budget, resolve, take
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Ranker, Top
from pilotfish.records import Floats, Ints
from pilotfish.scoring.audit.bounds import lower_rate, upper_rate
from pilotfish.stats import t_critical

_SIDE = 0.975  # of a two-sided 95% interval


@dataclass(frozen=True, eq=False)
class Field:
    """The n rows of a pool and then the m added ones, as a ranker sees them."""

    scores: Floats  # [n + m]
    tie: Ints  # [n + m]
    tokens: Ints | None  # [n + m], needed where the budget counts them
    n: int

    def only(self, added: Sequence[int]) -> "Field":
        """The pool with some of the added rows."""
        at = np.concatenate([np.arange(self.n), self.n + np.asarray(added, dtype=np.int64)])
        tokens = None if self.tokens is None else self.tokens[at]
        return Field(self.scores[at], self.tie[at], tokens, self.n)


@dataclass(frozen=True, eq=False)
class Fate:
    """What becomes of the m added rows."""

    kept: NDArray[np.bool_]  # [m]
    place: Floats  # [m] share of the pool's rows that are picked sooner; 1 where never picked


def together(field: Field, ranker: Ranker, budget: Budget) -> Fate:
    """All added rows at once, as much being bought as without them."""
    n, order = field.n, ranker.rank(field.scores, field.tie).order
    try:
        bought = take(order, budget, n, tokens=field.tokens, allow_short=True)
    except UsageError:  # the best row, an added one, is longer than the whole budget
        bought = order[:0]
    kept = np.zeros(len(field.scores), dtype=bool)
    kept[bought] = True
    return Fate(kept[n:], _places(order, field))


def alone(field: Field, ranker: Ranker, budget: Budget) -> Fate:
    """Each added row by itself, so that none takes another's place."""
    if type(ranker) is Top:
        return _one_by_one(field, ranker, budget)
    fates = [together(field.only([i]), ranker, budget) for i in range(len(field.scores) - field.n)]
    return Fate(np.array([f.kept[0] for f in fates]), np.array([f.place[0] for f in fates]))


def _one_by_one(field: Field, ranker: Top, budget: Budget) -> Fate:
    """The same in one sort: among rows in the order of their scores none moves another."""
    n, order = field.n, ranker.rank(field.scores, field.tie).order
    added = order >= n
    row, before = order[added] - n, np.cumsum(~added)[added]
    kept = np.zeros(len(field.scores) - n, dtype=bool)
    wanted = resolve(budget, n)
    if budget.unit == "rows":
        kept[row] = before < wanted
    elif field.tokens is not None:
        spent = np.cumsum(np.where(added, 0, field.tokens[order]))[added]
        kept[row] = spent + field.tokens[n + row] <= wanted
    return Fate(kept, _places(order, field))


def _places(order: Ints, field: Field) -> Floats:
    place = np.ones(len(field.scores) - field.n)
    added = order >= field.n
    place[order[added] - field.n] = np.cumsum(~added)[added] / field.n
    return place


def lift(kept: NDArray[np.bool_], share: float) -> dict[str, float | int]:
    """How often [k] rows would be kept over the `share` of the pool that is, with a 95% interval.

    Of the rate by Clopper and Pearson 1934, over the share: with 20 rows and a budget of 10% even
    none kept leaves lifts up to 1.7 possible.
    """
    found, n = int(kept.sum()), len(kept)
    return {
        "kept": found,
        "of": n,
        "lift": found / n / share,
        "low": lower_rate(found, n, _SIDE) / share,
        "high": upper_rate(found, n, _SIDE) / share,
    }


def drift(places: Mapping[str, Floats], before: str, after: str) -> dict[str, float | None]:
    """By what share of the pool [k] rows moved up from one place to another, on average.

    Above 0: picked sooner. 95% interval of Student's t over rows; None where one row tells none.
    """
    moved = places[before] - places[after]
    mean, k = float(moved.mean()), len(moved)
    if k < 2:
        return {"mean": mean, "low": None, "high": None}
    half = t_critical(0.05, k - 1) * float(moved.std(ddof=1)) / k**0.5
    return {"mean": mean, "low": mean - half, "high": mean + half}
