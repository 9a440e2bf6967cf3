"""Rank, constrain and cut: the rows that sorting the whole pool would keep, without sorting it.

For a ranker that sorts by score, a first pass over the shards counts the scores in bins, which
bounds the cut, and a second pass gathers the rows at or above it. Rankers that need all rows (the
middle, matched controls) get all of them. A quota makes one such cut per group.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pilotfish.budget import Budget, resolve, take
from pilotfish.methods.rankers import (
    COPY,
    OVER_BUDGET,
    OVER_QUOTA,
    UNSCORABLE,
    Gate,
    Ranker,
    Ranking,
    Top,
    tie_rank,
)
from pilotfish.records import Floats, Ints, Mask, Texts
from pilotfish.selection.candidates import Candidates, ScoreColumn, ScoreShard
from pilotfish.selection.constraints import (
    NONE,
    Constraints,
    DuplicateRows,
    Groups,
    find_duplicates,
    groups_of,
)
from pilotfish.selection.histogram import Cut, Histogram
from pilotfish.selection.quota import Quota, apportion

_LINES = 1 << 13  # rows whose text is in memory at a time


@dataclass(frozen=True, eq=False)
class GatheredScores:
    """Scores of some rows in memory, in pool order."""

    place: Ints  # [m] pool indices
    scores: Floats  # [m]
    tokens: Ints | None  # [m]
    digests: NDArray[np.bytes_]  # [m] 16 bytes, the content hash of each row
    ids: pa.Array  # [m]

    @cached_property
    def tie(self) -> Ints:
        """[m] the order among rows of equal score."""
        return tie_rank(self.digests, _LazyIds(self.ids))


class _LazyIds(Sequence[str]):
    """Ids as str, converted on access: `tie_rank` reads those of rows with equal content only."""

    def __init__(self, ids: pa.Array) -> None:
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: Any) -> Any:
        return self._ids[int(index)].as_py()


@dataclass(frozen=True, eq=False)
class PickedRows:
    """The kept rows, and the reason code for each of the others.

    Attributes:
        kept: [k] pool indices, best first.
        tokens: Tokens of the kept rows; None if the run has no token counts.
        digest: sha256 over ids and contents of the kept rows, in pick order.
        notes: Counts that the ranker recorded.
        facts: Effects of the constraints for run.json: `dedup` and `quota`, where used.
        eligible_by: The gate that decides which rows are eligible, or [n] the reason codes.
        beyond: The reason code of an eligible row that is not kept.
        duplicates: The duplicates that were dropped, if the selection drops them.
        keeper_ids: The ids of the kept rows that have duplicates, by pool index.
    """

    kept: Ints
    tokens: int | None
    digest: str
    notes: Mapping[str, int]
    facts: Mapping[str, Any]
    eligible_by: Gate | Texts
    beyond: str
    duplicates: DuplicateRows | None
    keeper_ids: Mapping[int, str]

    def reasons(self, start: int, shard: ScoreShard) -> Texts:
        """Return [n] the reason codes of a shard's rows as if none of them were kept.

        Args:
            start: The pool index of the shard's first row.
            shard: The scores of the shard.
        """
        stop = start + len(shard.values)
        if isinstance(self.eligible_by, Gate):
            found = self.eligible_by.reasons(shard.values)
        else:
            found = self.eligible_by[start:stop]
        reason = np.where(found == "", self.beyond, found)
        if self.duplicates is not None:
            reason[self.duplicates.keeper[start:stop] >= 0] = COPY
        bad = np.flatnonzero(reason == UNSCORABLE)
        reason[bad] = [f"{UNSCORABLE}:{why}" for why in shard.why[bad]]
        return reason

    def nearest(self, start: int, stop: int) -> list[str | None]:
        """Return the id of the kept row that each row of a range duplicates; None for others."""
        if self.duplicates is None:
            return [None] * (stop - start)
        return [self.keeper_ids.get(int(row)) for row in self.duplicates.keeper[start:stop]]


def pick_rows(
    rows: Candidates,
    scores: ScoreColumn,
    ranker: Ranker,
    budget: Budget,
    constraints: Constraints = NONE,
    *,
    allow_short: bool = False,
) -> PickedRows:
    """Rank the rows and keep the best of them that fit the budget and the constraints.

    Args:
        rows: The rows of the run.
        scores: One score per row.
        ranker: How to order the eligible rows.
        budget: How many rows or tokens to keep; a quota needs a budget in rows.
        constraints: Whether duplicates are dropped, and the quota of each group.
        allow_short: Keep fewer rows if too few are eligible.

    Raises:
        UsageError: The budget cannot be met (see `budget.take`), or no row has the column of the
            quota.
    """
    duplicates = duplicates_in(rows, scores, ranker, constraints)
    facts: dict[str, Any] = {}
    if duplicates is not None:
        scores = duplicates.without(scores, rows.pool.ranges)
        facts["dedup"] = {"kind": duplicates.kind, "dropped": duplicates.dropped}
    if constraints.quota is None:
        some, ranking, kept = _cut(rows, scores, ranker, budget, allow_short)
    else:
        some, ranking, kept, facts["quota"] = _cut_by_group(
            rows, scores, ranker, budget, constraints.quota, allow_short
        )
    place = some.place[kept]
    keeper = np.isin(place, [] if duplicates is None else duplicates.keeper)
    ids = some.ids.take(pa.array(kept[keeper])).to_pylist()
    return PickedRows(
        kept=place,
        tokens=None if some.tokens is None else int(some.tokens[kept].sum()),
        digest=_digest(some, kept),
        notes=ranking.notes,
        facts=facts,
        eligible_by=ranker.gate if isinstance(ranker, Top) else ranking.reason,
        beyond=OVER_BUDGET if constraints.quota is None else OVER_QUOTA,
        duplicates=duplicates,
        keeper_ids=dict(zip(place[keeper].tolist(), ids, strict=True)),
    )


def duplicates_in(
    rows: Candidates, scores: ScoreColumn, ranker: Ranker, constraints: Constraints
) -> DuplicateRows | None:
    """Find the duplicates among the eligible rows; None if the constraints allow duplicates."""
    if constraints.dedup is None:
        return None
    some = gather(rows, scores)
    order = some.place[ranker.rank(some.scores, some.tie).order]
    return find_duplicates(rows.pool, order, constraints.dedup)


def gather(
    rows: Candidates,
    scores: ScoreColumn,
    may_be_kept: Callable[[int, Floats], Mask] | None = None,
) -> GatheredScores:
    """Read scores, token counts, ids and content hashes of some rows into memory.

    Args:
        rows: The rows of the run.
        scores: One score per row.
        may_be_kept: Called with the pool index of a shard's first row and its scores [n]; returns
            [n] which rows to read. None reads all of them.
    """
    place, values, tokens = list[Ints](), list[Floats](), list[Ints]()
    digests, ids = list[NDArray[np.bytes_]](), list[pa.Array]()
    shards = zip(rows.pool.ranges, scores.shards(), rows.tokens(), strict=True)
    for shard, ((start, stop), (here, _), counts) in enumerate(shards):
        wanted = np.arange(stop - start)
        if may_be_kept is not None:
            wanted = np.flatnonzero(may_be_kept(start, here))
        origin = rows.pool.table(shard, "id", "digest").take(pa.array(wanted))
        place.append(wanted + start)
        values.append(here[wanted])
        tokens += [] if counts is None else [counts[wanted]]
        # 32 hex digits as 16 bytes, which sort alike
        packed = bytes.fromhex("".join(origin["digest"].to_pylist()))
        digests.append(np.frombuffer(packed, dtype="S16"))
        ids.append(pa.concat_arrays(origin["id"].chunks))
    return GatheredScores(
        place=np.concatenate(place),
        scores=np.concatenate(values),
        tokens=np.concatenate(tokens) if tokens else None,
        digests=np.concatenate(digests),
        ids=pa.concat_arrays(ids),
    )


def _cut(
    rows: Candidates, scores: ScoreColumn, ranker: Ranker, budget: Budget, allow_short: bool
) -> tuple[GatheredScores, Ranking, Ints]:
    """Return the gathered rows, their ranking, and [k] the places of the kept ones in it."""
    if not isinstance(ranker, Top):
        some = gather(rows, scores)
    else:
        gate, direction = ranker.gate, ranker.direction
        shards = (
            Histogram.of(_eligible(gate, values), direction, tokens)
            for (values, _), tokens in zip(scores.shards(), rows.tokens(), strict=True)
        )
        counted, wanted = Histogram.total(shards, direction), resolve(budget, len(rows))
        bound = counted.token_budget(wanted) if budget.unit == "tokens" else counted.top_k(wanted)
        some = gather(rows, scores, lambda _, values: bound.may_hold(_eligible(gate, values)))
    ranking = ranker.rank(some.scores, some.tie)
    kept = take(ranking.order, budget, len(rows), tokens=some.tokens, allow_short=allow_short)
    return some, ranking, kept


def _cut_by_group(
    rows: Candidates,
    scores: ScoreColumn,
    ranker: Ranker,
    budget: Budget,
    quota: Quota,
    allow_short: bool,
) -> tuple[GatheredScores, Ranking, Ints, dict[str, Any]]:
    """Do the same as `_cut` in every group; the kept rows are in the order of the whole pool.

    A group with too few eligible rows frees its share for the others. The last value returned is
    the entry `quota` of run.json.
    """
    groups, count = groups_of(rows.pool, quota.column), resolve(budget, len(rows))
    if isinstance(ranker, Top):
        histograms = _group_histograms(rows, scores, ranker, groups)
        eligible = np.array([each.rows.sum() for each in histograms], dtype=np.int64)
        granted = apportion(quota.of(groups.names, groups.sizes), eligible, count)
        cuts = [each.top_k(int(k)) for each, k in zip(histograms, granted, strict=True)]
        some = gather(rows, scores, _AboveGroupCut(ranker, groups, cuts))
        ranking = ranker.rank(some.scores, some.tie)
    else:
        some = gather(rows, scores)
        ranking = ranker.rank(some.scores, some.tie)
        eligible, granted = group_shares(groups, quota, ranking.order, count)
    take(np.arange(granted.sum()), budget, len(rows), allow_short=allow_short)
    codes = groups.codes[some.place]
    inside = np.zeros(len(codes), dtype=bool)
    for group in np.flatnonzero(granted):
        here = np.flatnonzero(codes == group)
        order = ranker.rank(some.scores[here], some.tie[here]).order
        inside[here[order][: granted[group]]] = True
    counts = zip(groups.names, groups.sizes, eligible, granted, strict=True)
    facts = {
        "as": quota.text,
        "groups": {
            name: {"pool": int(n), "eligible": int(m), "kept": int(k)} for name, n, m, k in counts
        },
    }
    return some, ranking, ranking.order[inside[ranking.order]], facts


def group_shares(groups: Groups, quota: Quota, order: Ints, count: int) -> tuple[Ints, Ints]:
    """Share rows among groups.

    Args:
        groups: The group of every row.
        quota: The shares of the groups.
        order: [m] pool indices of the eligible rows.
        count: The number of rows to share.

    Returns:
        [g] eligible rows of each group, and [g] how many of them the group may keep.
    """
    eligible = np.bincount(groups.codes[order], minlength=len(groups.names)).astype(np.int64)
    return eligible, apportion(quota.of(groups.names, groups.sizes), eligible, count)


def _group_histograms(
    rows: Candidates, scores: ScoreColumn, ranker: Top, groups: Groups
) -> list[Histogram]:
    """[g] histograms of the eligible scores of every group."""
    counted = [Histogram.of(np.empty(0), ranker.direction) for _ in groups.names]
    for (start, stop), (values, _) in zip(rows.pool.ranges, scores.shards(), strict=True):
        codes, here = groups.codes[start:stop], _eligible(ranker.gate, values)
        for group in np.unique(codes):
            counted[group] += Histogram.of(here[codes == group], ranker.direction)
    return counted


@dataclass(frozen=True, eq=False)
class _AboveGroupCut:
    """Tells which rows of a shard can be before the cut of their group (see `gather`)."""

    ranker: Top
    groups: Groups
    cuts: list[Cut]  # [g]

    def __call__(self, start: int, values: Floats) -> Mask:
        codes, scores = (
            self.groups.codes[start:][: len(values)],
            _eligible(self.ranker.gate, values),
        )
        before = np.zeros(len(values), dtype=bool)
        for group in np.unique(codes):
            here = np.flatnonzero(codes == group)
            before[here] = self.cuts[group].may_hold(scores[here])
        return before


def _eligible(gate: Gate, values: Floats) -> Floats:
    """[n] scores, nan where the gate excludes the row."""
    return np.where(gate.reasons(values) == "", values, np.nan)


def scores_sha(scores: ScoreColumn) -> str:
    """Return the sha256 over the scores in pool order; other columns do not change it."""
    sha = hashlib.sha256()
    for values, _ in scores.shards():
        sha.update(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes())
    return sha.hexdigest()


def _digest(some: GatheredScores, kept: Ints) -> str:
    """sha256 over a line of id and content hash per kept row, in pick order."""
    sha, between = hashlib.sha256(), ""
    for at in range(0, len(kept), _LINES):
        block = kept[at : at + _LINES]
        digests = some.digests[block].tobytes().hex()
        names = some.ids.take(pa.array(block)).to_pylist()
        lines = (f"{name}\t{digests[32 * i : 32 * i + 32]}" for i, name in enumerate(names))
        sha.update((between + "\n".join(lines)).encode("utf-8", "surrogatepass"))
        between = "\n"
    return sha.hexdigest()
