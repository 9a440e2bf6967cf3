"""The rows of a run that a selection chooses from: its pool and, once scored, its score columns.

Pool and scores are read shard by shard, in pool order, and are not kept in memory.
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
from pilotfish.data.pool import pieces, rows_in
from pilotfish.data.run_pool import pool_of
from pilotfish.errors import UsageError
from pilotfish.methods import Selector
from pilotfish.methods.base import NONFINITE
from pilotfish.records import Floats, Ints, RowFeatures, Texts
from pilotfish.store import Run

_COUNTS = ("n_prompt_tokens", "n_response_tokens")


class ScoreShard(NamedTuple):
    """The scores of one shard of the pool."""

    values: Floats  # [n] nan where unscorable
    why: Texts  # [n] the reason where unscorable, else ""


@dataclass(frozen=True, eq=False)
class ScoreColumn:
    """One score per row of the pool, or the reason why a row has none.

    Attributes:
        column: The name in scores.parquet; None for scores that are computed on the spot.
        shards: Returns an iterator over the shards, in order. It may be called many times.
    """

    column: str | None
    shards: Callable[[], Iterator[ScoreShard]]


@dataclass(frozen=True, eq=False)
class ScoreFile:
    """scores.parquet of a run, in pool order.

    Attributes:
        run: The run that holds the file.
        sizes: Rows of every shard of the pool.
        joined: The whole table in pool order, where the file itself has another order.
    """

    run: Run
    sizes: tuple[int, ...]
    joined: pa.Table | None = None

    def tables(self, *names: str) -> Iterator[pa.Table]:
        """Iterate over the shards; each table holds the named columns of one shard's rows."""
        if self.joined is None:
            yield from pieces(self.run.store.path("scores.parquet"), names, self.sizes)
            return
        start = 0
        for size in self.sizes:
            yield self.joined.select(names).slice(start, size)
            start += size


def open_scores(run: Run, pool: Pool) -> ScoreFile | None:
    """Open scores.parquet of a run and match its rows to the pool by id.

    `score` writes the file in pool order, so a table in memory is needed only for a file from
    elsewhere. Returns None for a run without scores.

    Raises:
        UsageError: The scores belong to another pool.
    """
    if run.store.read_json("scores.json") is None:
        return None
    manifest = run.store.require("scores.json")
    path, sizes = run.store.path("scores.parquet"), tuple(pool.sizes)
    if manifest.get("pool") == pool.fingerprint and rows_in(path) == len(pool):
        pairs = zip(pieces(path, ["id"], sizes), _ids_of(pool), strict=True)
        if all(table["id"].to_pylist() == ids for table, ids in pairs):
            return ScoreFile(run, sizes)
        table = pq.read_table(path, partitioning=None)
        lines = {id: line for line, id in enumerate(table["id"].to_pylist())}
        wanted = [id for ids in _ids_of(pool) for id in ids]
        if lines.keys() == set(wanted):
            return ScoreFile(run, sizes, table.take([lines[id] for id in wanted]))
    raise UsageError(
        f"the scores in {run.root} are of another pool",
        hint=f"pilotfish score {run.root} --weak MODEL --method METHOD --force",
    )


def _ids_of(pool: Pool) -> Iterator[list[Any]]:
    for shard in range(pool.shards):
        yield pool.table(shard, "id")["id"].to_pylist()


@dataclass(frozen=True, eq=False)
class Candidates:
    """Every row of a run's pool, in pool order, with its token counts and scores."""

    run: Run
    pool: Pool

    def __len__(self) -> int:
        return len(self.pool)

    @cached_property
    def scores(self) -> ScoreFile | None:
        """scores.parquet; None for a run without scores."""
        return open_scores(self.run, self.pool)

    def counts(self) -> Iterator[tuple[Ints, Ints]] | None:
        """Iterate over the shards: prompt tokens [n] and response tokens [n] of their rows.

        Returns None for a run without scores: scoring counts the tokens.
        """
        if self.scores is None:
            return None
        tables = self.scores.tables(*_COUNTS)
        return ((table[_COUNTS[0]].to_numpy(), table[_COUNTS[1]].to_numpy()) for table in tables)

    def tokens(self) -> Iterator[Ints | None]:
        """Iterate over the shards: tokens [n] per row (weak tokenizer); None if not counted."""
        counts = self.counts()
        if counts is None:
            return repeat(None, self.pool.shards)
        return (prompt + response for prompt, response in counts)

    def need_counts(self, what: str) -> Iterator[tuple[Ints, Ints]]:
        """Return `counts()`, or raise UsageError: `what` needs a run with scores."""
        found = self.counts()
        if found is None:
            raise UsageError(
                f"{what} needs token counts, which {self.run.root} does not hold yet",
                hint=f"pilotfish score {self.run.root} --weak MODEL --method METHOD "
                f"--out {self.run.root}",
            )
        return found

    def score_column(self, name: str) -> ScoreColumn:
        """Return one column of scores.parquet; a value that is not finite is unscorable.

        Raises:
            UsageError: The run has no column of that name.
        """
        if self.scores is None or name not in self.run.section("scores"):
            raise no_such_score(self.run, name)
        scores = self.scores

        def shards() -> Iterator[ScoreShard]:
            for table in scores.tables(name, f"{name}_status", f"{name}_reason"):
                values = np.array(table[name].to_numpy(), dtype=np.float64)
                bad = (table[f"{name}_status"].to_numpy() != "ok") | ~np.isfinite(values)
                reasons = table[f"{name}_reason"].fill_null(NONFINITE).to_numpy()
                yield ScoreShard(np.where(bad, np.nan, values), np.where(bad, reasons, ""))

        return ScoreColumn(name, shards)

    def score_now(self, selector: Selector, what: str) -> ScoreColumn:
        """Compute the scores of a method that needs no model.

        Args:
            selector: The method. If it is `pool_relative`, it is called once with the whole pool.
            what: The name of the method for the error message.

        Raises:
            UsageError: The method reads token counts and the run has none.
        """
        if selector.reads_counts:
            self.need_counts(what)

        def scored(features: RowFeatures) -> ScoreShard:
            values = np.asarray(selector.score(features), dtype=np.float64)
            return ScoreShard(values, selector.reasons(features, values))

        if not selector.pool_relative:
            return ScoreColumn(None, lambda: map(scored, self._features_by_shard()))
        whole, bounds = scored(self.features()), self.pool.ranges
        return ScoreColumn(
            None, lambda: (ScoreShard(whole.values[a:b], whole.why[a:b]) for a, b in bounds)
        )

    def features(self) -> RowFeatures:
        """Return ids and token counts of the whole pool: the features that need no model."""
        shards = list(self._features_by_shard())
        return RowFeatures(
            np.concatenate([shard.ids for shard in shards]),
            np.concatenate([shard.n_prompt_tokens for shard in shards]),
            np.concatenate([shard.n_response_tokens for shard in shards]),
        )

    def _features_by_shard(self) -> Iterator[RowFeatures]:
        none = ((np.zeros(n, np.int64), np.zeros(n, np.int64)) for n in self.pool.sizes)
        counts = self.counts() or none
        for ids, (prompt, response) in zip(_ids_of(self.pool), counts, strict=True):
            yield RowFeatures(np.array(ids, dtype=object), prompt, response)

    def sources(self) -> Ints:
        """Return [n] a number per row for its source; sources are numbered by sorted name."""
        number: dict[str, int] = {}
        parts = []
        for shard in range(self.pool.shards):
            coded = self.pool.table(shard, "source")["source"].combine_chunks().dictionary_encode()
            here = [number.setdefault(name, len(number)) for name in coded.dictionary.to_pylist()]
            parts.append(np.array(here, dtype=np.int32)[coded.indices.to_numpy()])
        place = np.argsort(np.argsort(np.array(list(number), dtype=object)))
        return np.asarray(place[np.concatenate(parts)], dtype=np.int64)


def candidates_of(run: Run) -> Candidates:
    """Open the pool of a run. Raises UsageError if no data was read into the run yet."""
    return Candidates(run, pool_of(run))


def no_such_score(run: Run, name: str) -> UsageError:
    """Return the error for a missing score column; its hint is the command that makes it."""
    known = ", ".join(sorted(run.section("scores"))) or "none"
    return UsageError(
        f"{run.root} has no score '{name}' yet (scores there: {known})",
        hint=f"pilotfish score {run.root} --weak MODEL --method '{name}' --out {run.root}",
    )
