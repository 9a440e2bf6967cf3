"""Copies among the rows that may be picked: the best-ranked one of each stays, the others go."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pilotfish.errors import unknown_name
from pilotfish.records import Example, Ints
from pilotfish.selection.candidates import Candidates, ScoredRow, ScoreShard
from pilotfish.selection.minhash import near_duplicate_texts

SIMILARITY = 0.8  # Jaccard's, of word triples, from which two texts count as near copies
KINDS = ("exact", "near")


@dataclass(frozen=True, eq=False)
class DuplicateRows:
    """Which rows are copies of a better-ranked one."""

    kind: str
    keeper: Ints  # [n] the row that stays in its stead, -1 for every row that is no copy

    @cached_property
    def dropped(self) -> int:
        """How many rows go."""
        return int((self.keeper >= 0).sum())

    def without(self, scored: ScoredRow, ranges: list[tuple[int, int]]) -> ScoredRow:
        """The scores, copies having none."""

        def parts() -> Iterator[ScoreShard]:
            for (start, stop), part in zip(ranges, scored.parts(), strict=True):
                copy = self.keeper[start:stop] >= 0
                yield ScoreShard(np.where(copy, np.nan, part.values), part.why)

        return ScoredRow(scored.column, parts)


def check_kind(kind: str | None) -> None:
    """UsageError for a way to tell copies that there is not."""
    if kind is not None and kind not in KINDS:
        raise unknown_name("kind of copies", kind, KINDS)


def find_duplicates(rows: Candidates, order: Ints, kind: str) -> DuplicateRows:
    """Copies among the pool rows `order` [m], best first.

    exact: the same turns, text and label to the letter, whatever the other columns. near: at least
    `SIMILARITY` by `geometry.near_duplicate_texts`, over all that the row says.
    """
    keeper = np.full(len(rows), -1, dtype=np.int64)
    keeper[order] = _exact(rows, order) if kind == "exact" else _near(rows, order)
    return DuplicateRows(kind, keeper)


def _exact(rows: Candidates, order: Ints) -> Ints:
    first: dict[bytes, int] = {}
    keys = (hashlib.blake2b(_said(row).encode("utf-8", "surrogatepass"), digest_size=16).digest()
            for row in _read(rows, order))  # fmt: skip
    by_row = dict(zip(np.sort(order).tolist(), keys, strict=True))
    found = np.array([first.setdefault(by_row[i], i) for i in order.tolist()], dtype=np.int64)
    return np.where(found == order, -1, found).astype(np.int64)


def _near(rows: Candidates, order: Ints) -> Ints:
    at = np.sort(order)
    turn = np.empty(len(at), dtype=np.int64)  # [m] when each row, in pool order, is judged
    turn[np.searchsorted(at, order)] = np.arange(len(order))
    texts = [_text(row) for row in _read(rows, order)]
    found = near_duplicate_texts(texts, SIMILARITY, turn)
    keeper = np.where(found.keeper >= 0, at[found.keeper], -1)
    return np.asarray(keeper[np.searchsorted(at, order)], dtype=np.int64)


def _read(rows: Candidates, order: Ints) -> Iterator[Example]:
    """The rows in pool order, one shard in memory at a time."""
    at = np.sort(order)
    for start, stop in rows.pool.ranges:
        yield from rows.pool.take(at[slice(*np.searchsorted(at, (start, stop)))])


def _said(row: Example) -> str:
    turns = [[turn.role, turn.content] for turn in row.turns]
    return json.dumps([turns, row.text, row.label], ensure_ascii=False)


def _text(row: Example) -> str:
    said = [turn.content for turn in row.turns] + [row.text or "", row.label or ""]
    return "\n".join(part for part in said if part)
