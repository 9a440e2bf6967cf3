"""Rank, cut, keep: exactly what sorting the whole pool would keep, without holding the whole pool.

A ranker that sorts by score is shown only the rows that can be before the cut: a first pass over
the shards counts scores in bins, which says where the cut falls, a second one gathers the rows at
or above it. Rankers that look at all rows (the middle, matched controls) are shown all.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pilotfish.budget import Budget, resolve, take
from pilotfish.methods.rankers import COPY, OVER_BUDGET, UNSCORABLE, Gate, Ranker, Top, tie_rank
from pilotfish.records import Floats, Ints, Texts
from pilotfish.selection.candidates import Candidates, ScoredRow, ScoreShard
from pilotfish.selection.dedup import DuplicateRows
from pilotfish.selection.histogram import Cut, Histogram

_LINES = 1 << 13  # rows whose text is in memory at a time


@dataclass(frozen=True, eq=False)
class TopK:
    """What was picked, and what to say of the rest."""

    kept: Ints  # [k] pool indices, best first
    tokens: int | None  # of the kept rows; None where the run has no counts
    digest: str  # sha256 over ids and contents of the kept rows, in pick order
    notes: Mapping[str, Any]
    _why: Gate | Texts  # what decides who may be picked, or [n] the codes of all rows
    beyond: str = OVER_BUDGET  # the code of an eligible row that was not kept
    copies: DuplicateRows | None = None
    _names: Mapping[int, str] = field(default_factory=dict)  # ids of kept rows that have copies

    def reasons(self, start: int, part: ScoreShard) -> Texts:
        """[n] the code of each row of a shard that begins at `start`, had none been kept."""
        stop = start + len(part.values)
        found = (
            self._why.reasons(part.values) if isinstance(self._why, Gate) else self._why[start:stop]
        )
        reason = np.where(found == "", self.beyond, found)
        if self.copies is not None:
            reason[self.copies.keeper[start:stop] >= 0] = COPY
        bad = np.flatnonzero(reason == UNSCORABLE)
        reason[bad] = [f"{UNSCORABLE}:{why}" for why in part.why[bad]]
        return reason

    def nearest(self, start: int, stop: int) -> list[str | None]:
        """The id of the kept row that each row of a stretch is a copy of, None for others."""
        if self.copies is None:
            return [None] * (stop - start)
        return [self._names.get(int(row)) for row in self.copies.keeper[start:stop]]


def select_topk(
    rows: Candidates,
    scored: ScoredRow,
    ranker: Ranker,
    budget: Budget,
    *,
    allow_short: bool = False,
    copies: DuplicateRows | None = None,
) -> TopK:
    """Spend a budget on scores; raises UsageError like `budget.take`. Copies are never kept."""
    if copies is not None:
        scored = copies.without(scored, rows.pool.ranges)
    cut = _cut(rows, scored, ranker, budget) if isinstance(ranker, Top) else None
    some = gathered(rows, scored, ranker, cut)
    ranking = ranker.rank(some.scores, some.tie)
    kept = take(ranking.order, budget, len(rows), tokens=some.tokens, allow_short=allow_short)
    return some.choice(
        kept, ranker.gate if isinstance(ranker, Top) else ranking.reason,
        notes=ranking.notes, copies=copies,
    )  # fmt: skip


def scores_sha(scored: ScoredRow) -> str:
    """sha256 over the scores in pool order: columns added beside them do not change it."""
    sha = hashlib.sha256()
    for values, _ in scored.parts():
        sha.update(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes())
    return sha.hexdigest()


@dataclass(frozen=True, eq=False)
class GatheredScores:
    """Rows that are looked at together, in pool order."""

    place: Ints  # [m] pool indices
    scores: Floats  # [m]
    tokens: Ints | None  # [m]
    digests: NDArray[np.bytes_]  # [m] 16 bytes of content each
    ids: pa.Array  # [m]

    @cached_property
    def tie(self) -> Ints:
        """[m] what decides between equal scores."""
        return tie_rank(self.digests, _Names(self.ids))

    def choice(
        self,
        kept: Ints,
        why: Gate | Texts,
        *,
        notes: Mapping[str, Any],
        beyond: str = OVER_BUDGET,
        copies: DuplicateRows | None = None,
    ) -> TopK:
        """What it is to keep the rows `kept` [k] of these, best first."""
        place = self.place[kept]
        copied = np.isin(place, [] if copies is None else copies.keeper)
        names = self.ids.take(pa.array(kept[copied])).to_pylist()
        return TopK(
            kept=place,
            tokens=None if self.tokens is None else int(self.tokens[kept].sum()),
            digest=_digest(self, kept),
            notes=notes,
            _why=why,
            beyond=beyond,
            copies=copies,
            _names=dict(zip(place[copied].tolist(), names, strict=True)),
        )


class _Names(Sequence[str]):
    """Ids as texts, made when asked for: only rows of equal content are told apart by them."""

    def __init__(self, ids: pa.Array) -> None:
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: Any) -> Any:
        return self._ids[int(index)].as_py()


def eligible(gate: Gate, values: Floats) -> Floats:
    """[n] scores, nan where the row may not be picked."""
    return np.where(gate.reasons(values) == "", values, np.nan)


def _cut(rows: Candidates, scored: ScoredRow, ranker: Top, budget: Budget) -> Cut:
    """First pass: the bin behind which no row can be kept."""
    parts = (
        Histogram.of(eligible(ranker.gate, values), ranker.direction, tokens)
        for (values, _), tokens in zip(scored.parts(), rows.tokens(), strict=True)
    )
    counted = Histogram.total(parts, ranker.direction)
    wanted = resolve(budget, len(rows))
    return counted.token_budget(wanted) if budget.unit == "tokens" else counted.top_k(wanted)


def gathered(
    rows: Candidates, scored: ScoredRow, ranker: Ranker, cut: Cut | None
) -> GatheredScores:
    """Second pass: the rows that may be before the cut; all of them where there is no cut."""
    if cut is None or not isinstance(ranker, Top):
        return gather(rows, scored, lambda _, values: np.ones(len(values), dtype=bool))
    gate = ranker.gate
    return gather(rows, scored, lambda _, values: cut.may_hold(eligible(gate, values)))


def gather(
    rows: Candidates, scored: ScoredRow, wanted: Callable[[int, Floats], NDArray[np.bool_]]
) -> GatheredScores:
    """The rows that `wanted` says of: called with a shard's first pool index and its scores."""
    place, scores, tokens = list[Ints](), list[Floats](), list[Ints]()
    digests, ids = list[NDArray[np.bytes_]](), list[pa.Array]()
    parts = zip(rows.pool.ranges, scored.parts(), rows.tokens(), strict=True)
    for shard, ((start, _), (values, _), counts) in enumerate(parts):
        here = np.flatnonzero(wanted(start, values))
        origin = rows.pool.table(shard, "id", "digest").take(pa.array(here))
        place.append(here + start)
        scores.append(values[here])
        tokens += [] if counts is None else [counts[here]]
        digests.append(_packed(origin["digest"].to_pylist()))
        ids.append(pa.concat_arrays(origin["id"].chunks))
    spent = np.concatenate(tokens) if tokens else None
    return GatheredScores(
        np.concatenate(place), np.concatenate(scores), spent, np.concatenate(digests),
        pa.concat_arrays(ids),
    )  # fmt: skip


def _packed(digests: list[str]) -> NDArray[np.bytes_]:
    """[n] 16 bytes for 32 hex digits; they sort alike."""
    return np.frombuffer(bytes.fromhex("".join(digests)), dtype="S16")


def _digest(some: GatheredScores, kept: Ints) -> str:
    """sha256 over a line of id and content of each kept row, in pick order."""
    sha, between = hashlib.sha256(), ""
    for at in range(0, len(kept), _LINES):
        block = kept[at : at + _LINES]
        digests = some.digests[block].tobytes().hex()
        names = some.ids.take(pa.array(block)).to_pylist()
        lines = (f"{name}\t{digests[32 * i : 32 * i + 32]}" for i, name in enumerate(names))
        sha.update((between + "\n".join(lines)).encode("utf-8", "surrogatepass"))
        between = "\n"
    return sha.hexdigest()
