"""What a selection is made from: the pool's rows and, where the run was scored, its columns.

Both are read shard by shard, in pool order, as often as they are asked for, and not held.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.data import Pool
from pilotfish.data.row_groups import pieces, rows_in
from pilotfish.data.run_pool import pool_of
from pilotfish.errors import UsageError
from pilotfish.methods import Selector
from pilotfish.methods.base import NONFINITE
from pilotfish.records import Floats, Ints, RowFeatures, Texts
from pilotfish.store import Run


@dataclass(frozen=True, eq=False)
class ScoreFile:
    """The scores of a run. `joined` is the whole table where the file has an order of its own."""

    run: Run
    sizes: tuple[int, ...]  # rows of every shard
    joined: pa.Table | None = None

    def tables(self, *names: str) -> Iterator[pa.Table]:
        """Columns of every shard's rows, in order."""
        if self.joined is None:
            yield from pieces(self.run.store.path("scores.parquet"), names, self.sizes)
            return
        start = 0
        for size in self.sizes:
            yield self.joined.select(names).slice(start, size)
            start += size


def score_file(run: Run, pool: Pool) -> ScoreFile | None:
    """The scores of a run beside its pool; None where it has none.

    Rows are matched by id: counts and positions prove nothing. `score` writes them in the order of
    the pool, so that nothing has to be held in memory. UsageError for scores of another pool.
    """
    if run.store.read_json("scores.json") is None:
        return None
    manifest = run.store.require("scores.json")
    path, sizes = run.store.path("scores.parquet"), tuple(pool.sizes)
    if manifest.get("pool") != pool.fingerprint or rows_in(path) != len(pool):
        raise _other_pool(run)
    pairs = zip(pieces(path, ["id"], sizes), ids_of(pool), strict=True)
    if all(table["id"].to_pylist() == ids for table, ids in pairs):
        return ScoreFile(run, sizes)
    return ScoreFile(run, sizes, _joined(run, pool))


def ids_of(pool: Pool) -> Iterator[list[Any]]:
    """The ids of every shard, in order."""
    for shard in range(pool.shards):
        yield pool.table(shard, "id")["id"].to_pylist()


def _joined(run: Run, pool: Pool) -> pa.Table:
    table = pq.read_table(run.store.path("scores.parquet"), partitioning=None)
    lines = {id: line for line, id in enumerate(table["id"].to_pylist())}
    wanted = [id for ids in ids_of(pool) for id in ids]
    if lines.keys() != set(wanted):
        raise _other_pool(run)
    return table.take([lines[id] for id in wanted])


def _other_pool(run: Run) -> UsageError:
    return UsageError(
        f"the scores in {run.root} are of another pool",
        hint=f"pilotfish score {run.root} --weak MODEL --method METHOD --force",
    )


_COUNTS = ("n_prompt_tokens", "n_response_tokens")


class ScoreShard(NamedTuple):
    """The scores of one shard."""

    values: Floats  # [n] nan where unscorable
    why: Texts  # [n] "" where scored


@dataclass(frozen=True, eq=False)
class ScoredRow:
    """One score per row, and a reason where there is none; `parts()` reads them anew."""

    column: str | None  # name in scores.parquet; None where computed on the spot
    parts: Callable[[], Iterator[ScoreShard]]  # one of each shard, in order


@dataclass(frozen=True, eq=False)
class Candidates:
    """Every row of the pool in pool order, and how to reach what was measured of it."""

    run: Run
    pool: Pool

    def __len__(self) -> int:
        return len(self.pool)

    @cached_property
    def scores(self) -> ScoreFile | None:
        """scores.parquet; None where the run has no scores."""
        return score_file(self.run, self.pool)

    def counts(self) -> Iterator[tuple[Ints, Ints]] | None:
        """Prompt and response tokens of every shard's rows; None where the run has no scores."""
        if self.scores is None:
            return None
        tables = self.scores.tables(*_COUNTS)
        return ((table[_COUNTS[0]].to_numpy(), table[_COUNTS[1]].to_numpy()) for table in tables)

    def tokens(self) -> Iterator[Ints | None]:
        """Tokens of every shard's rows as the weak model read them; None where not counted."""
        counts = self.counts()
        if counts is None:
            return repeat(None, self.pool.shards)
        return (prompt + response for prompt, response in counts)

    def need_counts(self, what: str) -> Iterator[tuple[Ints, Ints]]:
        """The token counts, or the missing step and its command."""
        found = self.counts()
        if found is None:
            raise UsageError(
                f"{what} needs token counts, which {self.run.root} does not hold yet",
                hint=f"pilotfish score {self.run.root} --weak MODEL --method METHOD "
                f"--out {self.run.root}",
            )
        return found

    def scored(self, name: str) -> ScoredRow:
        """One score column. A value that is no number is unscorable whatever its status says."""
        if self.scores is None or name not in self.run.section("scores"):
            raise no_such_score(self.run, name)
        return ScoredRow(name, lambda: self._parts(name))

    def _parts(self, name: str) -> Iterator[ScoreShard]:
        assert self.scores is not None
        for table in self.scores.tables(name, f"{name}_status", f"{name}_reason"):
            values = np.array(table[name].to_numpy(), dtype=np.float64)
            bad = (table[f"{name}_status"].to_numpy() != "ok") | ~np.isfinite(values)
            told = table[f"{name}_reason"].fill_null(NONFINITE).to_numpy()
            yield ScoreShard(np.where(bad, np.nan, values), np.where(bad, told, ""))

    def score_now(self, selector: Selector, what: str) -> ScoredRow:
        """The scores of a method that looks at no model."""
        if selector.reads_counts:
            self.need_counts(what)
        if not selector.pool_relative:
            return ScoredRow(None, lambda: (_part(selector, seen) for seen in self._seen()))
        whole, bounds = _part(selector, self.seen()), self.pool.ranges
        return ScoredRow(
            None, lambda: (ScoreShard(whole.values[a:b], whole.why[a:b]) for a, b in bounds)
        )

    def seen(self) -> RowFeatures:
        """All that can be told of the whole pool without a model."""
        return _all(list(self._seen()))

    def sources(self) -> Ints:
        """[n] number of each row's source, in the order of their names."""
        number: dict[str, int] = {}
        parts = []
        for shard in range(self.pool.shards):
            coded = self.pool.table(shard, "source")["source"].combine_chunks().dictionary_encode()
            here = [number.setdefault(name, len(number)) for name in coded.dictionary.to_pylist()]
            parts.append(np.array(here, dtype=np.int32)[coded.indices.to_numpy()])
        place = np.argsort(np.argsort(np.array(list(number), dtype=object)))
        return np.asarray(place[np.concatenate(parts)], dtype=np.int64)

    def _seen(self) -> Iterator[RowFeatures]:
        none = ((np.zeros(n, np.int64), np.zeros(n, np.int64)) for n in self.pool.sizes)
        counts = self.counts() or none
        for ids, (prompt, response) in zip(ids_of(self.pool), counts, strict=True):
            yield RowFeatures(np.array(ids, dtype=object), prompt, response)


def candidates_of(run: Run) -> Candidates:
    """The pool of a run, ready to pick from; UsageError where it was not read yet."""
    return Candidates(run, pool_of(run))


def no_such_score(run: Run, name: str) -> UsageError:
    """The missing step, by its command."""
    known = ", ".join(sorted(run.section("scores"))) or "none"
    return UsageError(
        f"{run.root} has no score '{name}' yet (scores there: {known})",
        hint=f"pilotfish score {run.root} --weak MODEL --method '{name}' --out {run.root}",
    )


def _part(selector: Selector, seen: RowFeatures) -> ScoreShard:
    values = np.asarray(selector.score(seen), dtype=np.float64)
    return ScoreShard(values, selector.reasons(seen, values))


def _all(parts: list[RowFeatures]) -> RowFeatures:
    return RowFeatures(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.n_prompt_tokens for part in parts]),
        np.concatenate([part.n_response_tokens for part in parts]),
    )
