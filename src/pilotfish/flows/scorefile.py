"""scores.parquet read in the order of the pool, shard after shard."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.errors import UsageError
from pilotfish.flows.parquet import pieces, rows_in
from pilotfish.pool import Pool
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
