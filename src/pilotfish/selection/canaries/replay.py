"""Replay a selection with rows added to the pool: would they be kept? Numpy only."""

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
class ExtendedPool:
    """The n rows of a pool, followed by m added rows, as a ranker reads them."""

    scores: Floats  # [n + m]
    tie: Ints  # [n + m]
    tokens: Ints | None  # [n + m], for a budget that counts tokens
    n: int

    def only(self, added: Sequence[int]) -> "ExtendedPool":
        """Return the pool with some of the added rows, numbered from 0."""
        at = np.concatenate([np.arange(self.n), self.n + np.asarray(added, dtype=np.int64)])
        tokens = None if self.tokens is None else self.tokens[at]
        return ExtendedPool(self.scores[at], self.tie[at], tokens, self.n)


@dataclass(frozen=True, eq=False)
class Outcome:
    """The outcome for the m added rows."""

    kept: NDArray[np.bool_]  # [m]
    place: Floats  # [m] share of the pool's rows that rank before the row; 1 if it is not ranked


def replay_together(pool: ExtendedPool, ranker: Ranker, budget: Budget) -> Outcome:
    """Add all rows at once; the budget stays that of the pool without them."""
    n, order = pool.n, ranker.rank(pool.scores, pool.tie).order
    try:
        bought = take(order, budget, n, tokens=pool.tokens, allow_short=True)
    except UsageError:  # the best row, an added one, is longer than the whole budget
        bought = order[:0]
    kept = np.zeros(len(pool.scores), dtype=bool)
    kept[bought] = True
    return Outcome(kept[n:], _places(order, pool))


def replay_each(pool: ExtendedPool, ranker: Ranker, budget: Budget) -> Outcome:
    """Add each row by itself, so that no added row takes the place of another."""
    if type(ranker) is not Top:
        single = [pool.only([i]) for i in range(len(pool.scores) - pool.n)]
        found = [replay_together(each, ranker, budget) for each in single]
        return Outcome(np.array([f.kept[0] for f in found]), np.array([f.place[0] for f in found]))
    # Sorted by score, an added row moves no other row: one sort serves all of them.
    n, order = pool.n, ranker.rank(pool.scores, pool.tie).order
    added = order >= n
    row, before = order[added] - n, np.cumsum(~added)[added]
    kept = np.zeros(len(pool.scores) - n, dtype=bool)
    wanted = resolve(budget, n)
    if budget.unit == "rows":
        kept[row] = before < wanted
    elif pool.tokens is not None:
        spent = np.cumsum(np.where(added, 0, pool.tokens[order]))[added]
        kept[row] = spent + pool.tokens[n + row] <= wanted
    return Outcome(kept, _places(order, pool))


def _places(order: Ints, pool: ExtendedPool) -> Floats:
    place = np.ones(len(pool.scores) - pool.n)
    added = order >= pool.n
    place[order[added] - pool.n] = np.cumsum(~added)[added] / pool.n
    return place


def lift(kept: NDArray[np.bool_], share: float) -> dict[str, float | int]:
    """Return how often added rows are kept, divided by how often rows of the pool are.

    The 95% interval is that of the rate (Clopper & Pearson 1934), divided by the share: with 20
    rows and a budget of 10%, none kept still allows a lift of up to 1.7.

    Args:
        kept: [k] whether each added row would be kept.
        share: The share of the pool that the selection keeps, above 0.
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
    """Return by what share of the pool a change moves rows up in the ranking, on average.

    Above 0: towards the best rank. The 95% interval is Student's t over rows; None for one row.

    Args:
        places: Attack -> [k] the place of each row (see `Outcome`).
        before: The attack that is the baseline.
        after: The attack whose effect is measured.
    """
    moved = places[before] - places[after]
    mean, k = float(moved.mean()), len(moved)
    if k < 2:
        return {"mean": mean, "low": None, "high": None}
    half = t_critical(0.05, k - 1) * float(moved.std(ddof=1)) / k**0.5
    return {"mean": mean, "low": mean - half, "high": mean + half}
