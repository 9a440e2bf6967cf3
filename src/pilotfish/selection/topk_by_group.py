"""Quotas: a budget of rows shared out among groups, the best of each kept."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.budget import Budget, resolve, take
from pilotfish.methods.rankers import OVER_QUOTA, Ranker, Top
from pilotfish.records import Floats, Ints
from pilotfish.selection.candidates import Candidates, ScoredRow
from pilotfish.selection.dedup import DuplicateRows
from pilotfish.selection.group_columns import Groups, groups_of
from pilotfish.selection.histogram import Cut, Histogram
from pilotfish.selection.quota import Quota, apportion
from pilotfish.selection.topk import GatheredScores, TopK, eligible, gather


@dataclass(frozen=True, eq=False)
class Shares:
    """Who gets how much: rows per group, of those that may be picked."""

    groups: Groups
    room: Ints  # [g] rows that may be picked
    rows: Ints  # [g] rows that are

    def told(self, quota: Quota) -> dict[str, Any]:
        """What run.json says of it."""
        counts = zip(self.groups.sizes, self.room, self.rows, strict=True)
        told = [{"pool": int(n), "eligible": int(m), "kept": int(k)} for n, m, k in counts]
        return {"as": quota.text, "groups": dict(zip(self.groups.names, told, strict=True))}


def select_by_group(
    rows: Candidates,
    scored: ScoredRow,
    ranker: Ranker,
    budget: Budget,
    quota: Quota,
    *,
    allow_short: bool = False,
    copies: DuplicateRows | None = None,
) -> TopK:
    """Spend a budget of rows group by group; the kept rows stand in the order of the whole pool.

    Each group gives its best rows by `ranker`; one that runs dry frees its share for the others.
    The budget is of rows. UsageError (exit 2) as in `budget.take`, and for a strange column.
    """
    if copies is not None:
        scored = copies.without(scored, rows.pool.ranges)
    some, shares = _shared(rows, scored, ranker, quota, resolve(budget, len(rows)))
    take(np.arange(shares.rows.sum()), budget, len(rows), allow_short=allow_short)
    inside = np.zeros(len(some.place), dtype=bool)
    codes = shares.groups.codes[some.place]
    for group in np.flatnonzero(shares.rows):
        inside[_best(some, ranker, codes == group)[: shares.rows[group]]] = True
    ranking = ranker.rank(some.scores, some.tie)
    return some.choice(
        ranking.order[inside[ranking.order]],
        ranker.gate if isinstance(ranker, Top) else ranking.reason,
        notes={"quota": shares.told(quota)}, beyond=OVER_QUOTA, copies=copies,
    )  # fmt: skip


def _shared(
    rows: Candidates, scored: ScoredRow, ranker: Ranker, quota: Quota, count: int
) -> tuple[GatheredScores, Shares]:
    """The rows that can be kept (all, but for a ranker that sorts by score), and the shares."""
    groups = groups_of(rows.pool, quota.column)
    weights = quota.of(groups.names, groups.sizes)
    if isinstance(ranker, Top):
        counted = _counted(rows, scored, ranker, groups)
        room = np.array([each.rows.sum() for each in counted], dtype=np.int64)
        shares = Shares(groups, room, apportion(weights, room, count))
        cuts = [each.top_k(int(k)) for each, k in zip(counted, shares.rows, strict=True)]
        return gather(rows, scored, _Before(ranker, groups, cuts)), shares
    some = gather(rows, scored, lambda _, values: np.ones(len(values), dtype=bool))
    return some, shares_of(groups, quota, ranker.rank(some.scores, some.tie).order, count)


def shares_of(groups: Groups, quota: Quota, order: Ints, count: int) -> Shares:
    """The shares of `count` rows, where the pool rows `order` [m] may be picked."""
    room = np.bincount(groups.codes[order], minlength=len(groups.names)).astype(np.int64)
    return Shares(groups, room, apportion(quota.of(groups.names, groups.sizes), room, count))


def _counted(rows: Candidates, scored: ScoredRow, ranker: Top, groups: Groups) -> list[Histogram]:
    """[g] the scores of every group that may be picked, in bins."""
    counted = [Histogram.of(np.empty(0), ranker.direction) for _ in groups.names]
    for (start, stop), (values, _) in zip(rows.pool.ranges, scored.parts(), strict=True):
        codes, scores = groups.codes[start:stop], eligible(ranker.gate, values)
        for group in np.unique(codes):
            here = Histogram.of(scores[codes == group], ranker.direction)
            counted[group] = counted[group] + here
    return counted


@dataclass(frozen=True, eq=False)
class _Before:
    """Which rows of a shard can be before the cut of their group."""

    ranker: Top
    groups: Groups
    cuts: list[Cut]  # [g]

    def __call__(self, start: int, values: Floats) -> NDArray[np.bool_]:
        codes, scores = self.groups.codes[start:][: len(values)], eligible(self.ranker.gate, values)
        before = np.zeros(len(values), dtype=bool)
        for group in np.unique(codes):
            here = np.flatnonzero(codes == group)
            before[here] = self.cuts[group].may_hold(scores[here])
        return before


def _best(some: GatheredScores, ranker: Ranker, here: NDArray[np.bool_]) -> Ints:
    """[m] the rows of one group, best first, as places among the gathered ones."""
    rows = np.flatnonzero(here)
    return rows[ranker.rank(some.scores[rows], some.tie[rows]).order]
