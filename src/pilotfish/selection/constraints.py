"""Constraints of a selection: no duplicates, and a quota for each group of rows."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pilotfish.budget import Budget
from pilotfish.data import Pool
from pilotfish.errors import UsageError, unknown_name
from pilotfish.records import Example, Ints
from pilotfish.selection.candidates import ScoreColumn, ScoreShard
from pilotfish.selection.minhash import near_duplicate_texts
from pilotfish.selection.quota import Quota, parse_quota

DEDUP_KINDS = ("exact", "near")
SIMILARITY = 0.8  # Jaccard similarity of word triples from which two texts are near-duplicates
SOURCE = "source"
MISSING = "(none)"  # the group of rows without a value
MAX_GROUPS = 1_000  # run.json lists every group of a selection


@dataclass(frozen=True)
class Constraints:
    """Constraints of a selection.

    Attributes:
        dedup: "exact" or "near" drops duplicates of a better-ranked row; None keeps all rows.
        quota: How to share a budget of rows among groups; None does not group the rows.
    """

    dedup: str | None = None
    quota: Quota | None = None

    @classmethod
    def parse(cls, dedup: str | None, quota: str | None) -> "Constraints":
        """Parse --dedup and --quota. Raises UsageError (exit 2) for an invalid value."""
        if dedup is not None and dedup not in DEDUP_KINDS:
            raise unknown_name("kind of duplicates", dedup, DEDUP_KINDS)
        return cls(dedup, None if quota is None else parse_quota(quota))

    @classmethod
    def recorded(cls, facts: dict[str, Any]) -> "Constraints":
        """Return the constraints of a selection from its entry in run.json."""
        return cls.parse(facts.get("dedup", {}).get("kind"), facts.get("quota", {}).get("as"))

    def __bool__(self) -> bool:
        return self != NONE

    def check_budget(self, budget: Budget) -> None:
        """Raise UsageError (exit 2) for a quota with a budget of tokens."""
        if self.quota is not None and budget.unit == "tokens":
            raise UsageError(
                "quotas share out rows, not tokens", hint="give the budget in rows or percent"
            )

    def check_scores(self, column: str, precision: str, *, cascade: bool) -> None:
        """Raise UsageError (exit 2) if these constraints need more than the scores can give.

        Args:
            column: The name of the score column.
            precision: The number format it was computed in, such as "fp32".
            cascade: Whether a cascade computed it, so that only the best rows have a score.
        """
        if self and cascade:
            raise UsageError(
                f"'{column}' was scored by a cascade, which is reliable for its best rows only and "
                "does not support --dedup and --quota",
                hint="score without --cascade",
            )
        if self.dedup == "near" and precision != "fp32":
            raise UsageError(
                f"'{column}' was scored in {precision}: which of two near-duplicates ranks better "
                "is not audited",
                hint="score with --precision fp32, or use --dedup exact",
            )


NONE = Constraints()


@dataclass(frozen=True, eq=False)
class DuplicateRows:
    """Which rows duplicate a better-ranked row."""

    kind: str  # "exact" or "near"
    keeper: Ints  # [n] pool index of the row that is kept instead, -1 for a row that is not dropped

    @cached_property
    def dropped(self) -> int:
        """Number of rows that are dropped."""
        return int((self.keeper >= 0).sum())

    def without(self, scores: ScoreColumn, ranges: list[tuple[int, int]]) -> ScoreColumn:
        """Return the scores with nan for every duplicate; ranges: [start, stop) per shard."""

        def shards() -> Iterator[ScoreShard]:
            for (start, stop), shard in zip(ranges, scores.shards(), strict=True):
                duplicate = self.keeper[start:stop] >= 0
                yield ScoreShard(np.where(duplicate, np.nan, shard.values), shard.why)

        return ScoreColumn(scores.column, shards)


def find_duplicates(pool: Pool, order: Ints, kind: str) -> DuplicateRows:
    """Find the duplicates among some rows; the best-ranked row of each set is kept.

    Args:
        pool: The pool.
        order: [m] pool indices, best first.
        kind: "exact": turns, text and label are equal; other columns do not count. "near": the
            texts have a similarity of at least `SIMILARITY` (see `minhash.near_duplicate_texts`).
    """
    in_pool_order = np.sort(order)
    place = np.searchsorted(in_pool_order, order)  # [m] of each ranked row in pool order

    def rows() -> Iterator[Example]:  # one shard in memory at a time
        for start, stop in pool.ranges:
            yield from pool.take(
                in_pool_order[slice(*np.searchsorted(in_pool_order, (start, stop)))]
            )

    if kind == "exact":
        by_row = dict(zip(in_pool_order.tolist(), map(_content_key, rows()), strict=True))
        first: dict[bytes, int] = {}
        found = np.array([first.setdefault(by_row[i], i) for i in order.tolist()], dtype=np.int64)
        kept_instead = np.where(found == order, -1, found)
    else:
        rank = np.empty(len(order), dtype=np.int64)  # [m] of the rows in pool order
        rank[place] = np.arange(len(order))
        near = near_duplicate_texts([_all_text(row) for row in rows()], SIMILARITY, rank)
        kept_instead = np.where(near.keeper >= 0, in_pool_order[near.keeper], -1)[place]
    keeper = np.full(len(pool), -1, dtype=np.int64)
    keeper[order] = kept_instead
    return DuplicateRows(kind, keeper)


def _content_key(row: Example) -> bytes:
    turns = [[turn.role, turn.content] for turn in row.turns]
    text = json.dumps([turns, row.text, row.label], ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _all_text(row: Example) -> str:
    parts = [turn.content for turn in row.turns] + [row.text or "", row.label or ""]
    return "\n".join(part for part in parts if part)


@dataclass(frozen=True, eq=False)
class Groups:
    """The group of every row. Names are sorted, so the order of the rows does not matter."""

    column: str
    names: tuple[str, ...]  # [g]
    codes: Ints  # [n] in [0, g)

    @property
    def sizes(self) -> Ints:
        """[g] rows of the pool in each group."""
        return np.bincount(self.codes, minlength=len(self.names)).astype(np.int64)


def groups_of(pool: Pool, column: str) -> Groups:
    """Group the rows of a pool by the value of a column in the records as they were read.

    Args:
        pool: The pool.
        column: `source`, the file of a row, or a column of the user's data. Text values are the
            names of the groups; other values are written as JSON.

    Raises:
        UsageError: No row has the column, or it has more than `MAX_GROUPS` different values.
    """
    number: dict[str, int] = {}  # name -> number, in the order of appearance
    known_columns, codes = {SOURCE}, list[Ints]()
    for shard in range(pool.shards):
        if column == SOURCE:
            names = pool.table(shard, SOURCE)[SOURCE].to_pylist()
        else:
            records = [json.loads(line) for line in pool.table(shard, "raw")["raw"].to_pylist()]
            known_columns.update(*records[:1])
            names = [_group_name(record.get(column)) for record in records]
        codes.append(np.array([number.setdefault(n, len(number)) for n in names], dtype=np.int64))
        if len(number) > MAX_GROUPS:
            raise UsageError(
                f"the column '{column}' has more than {MAX_GROUPS:,} different values",
                hint="quotas are for columns that name groups, such as a topic or a source",
            )
    if set(number) <= {MISSING}:
        raise UsageError(
            f"no row has a value in a column '{column}'",
            hint="the rows have: " + ", ".join(sorted(known_columns)),
        )
    in_order = sorted(number)
    place = np.array([in_order.index(name) for name in number], dtype=np.int64)
    return Groups(column, tuple(in_order), place[np.concatenate(codes)])


def _group_name(value: object) -> str:
    if value is None or value == "":
        return MISSING
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def sentences_of(facts: dict[str, Any]) -> list[str]:
    """Return sentences about the effect of the constraints, from a selection's run.json entry."""
    sentences = []
    if "dedup" in facts:
        what = {"exact": "copies", "near": "copies or near copies"}[facts["dedup"]["kind"]]
        dropped = facts["dedup"]["dropped"]
        sentences.append(
            f"dedup: {dropped:,} rows are {what} of a better-ranked one and were left out"
        )
    if "quota" in facts:
        groups = facts["quota"]["groups"].items()
        parts = (f"{name} {rows['kept']:,} of {rows['pool']:,}" for name, rows in groups)
        sentences.append(f"quota {facts['quota']['as']}: " + ", ".join(parts))
    return sentences
