"""scores.parquet: every row of the pool, and for each score a value, or a status and a reason.

It is written shard after shard; only a method that looks at other rows too is shown all of them.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pilotfish.data import Pool
from pilotfish.data.row_groups import GroupedWriter, pieces
from pilotfish.data.run_pool import warn
from pilotfish.methods import Selector
from pilotfish.records import SKIPPED, Floats, Ints, RowFeatures, Texts
from pilotfish.scoring.score_plan import CASCADE, ScorePlan, check_columns
from pilotfish.store import Run

# A score that so many rows lack deserves a warning in the report.
MANY_UNSCORABLE = 0.1
_ORIGIN = ("id", "source", "row", "n_prompt_tokens", "n_response_tokens", "truncated")
Look = tuple[RowFeatures, NDArray[np.bool_]]  # what was measured of some rows, and truncated [n]


@dataclass(frozen=True)
class View:
    """How to look at what was measured: at one shard, or at the whole pool."""

    shard: Callable[[int], Look]
    whole: Callable[[], Look]
    recount: bool = False  # whether its token counts replace those that stand


@dataclass(eq=False)
class Column:
    """One score to be written, what run.json says of it, and what it has come to so far."""

    name: str
    selector: Selector
    facts: Mapping[str, Any]
    bad: Counter[str] = field(default_factory=Counter)  # reason -> rows without a score
    _whole: tuple[Floats, Texts] | None = None  # of every row, for a method that looks at all

    def prepare(self, view: View) -> None:
        """Score the whole pool now where a row's score depends on the others."""
        if self.selector.pool_relative:
            self._whole = _scored(self.selector, view.whole()[0])

    def add_to(self, table: pa.Table, seen: RowFeatures, start: int) -> pa.Table:
        """The three columns of scores.parquet for the rows from `start` on, beside `table`."""
        values, reasons = (
            (each[start : start + len(seen)] for each in self._whole)
            if self._whole
            else _scored(self.selector, seen)
        )
        bad = np.asarray(reasons != "", dtype=bool)
        self.bad.update(map(str, reasons[bad]))
        fresh = {
            self.name: pa.array(np.where(bad, 0.0, values), pa.float64(), mask=bad),
            f"{self.name}_status": pa.array(np.where(bad, "unscorable", "ok"), pa.string()),
            f"{self.name}_reason": pa.array(reasons, pa.string(), mask=~bad),
        }
        for name, array in fresh.items():
            table = table.append_column(name, array)
        return table

    def section(self, rows: int) -> dict[str, Any]:
        """What run.json says of it."""
        counts = dict(sorted(self.bad.items()))
        return {**self.facts, "scorable": rows - self.bad.total(), "unscorable": counts}


def write_columns(run: Run, pool: Pool, columns: Sequence[Column], view: View) -> Ints:
    """Commit scores.parquet with new columns, beside those of the same pool it already has.

    Returns the tokens of every row as the weak model read it, [n].
    """
    left = _others(run, pool, {column.name for column in columns})
    start, names, lengths = 0, list[str](), list[Ints]()
    for column in columns:
        column.prepare(view)
    with run.store.attempt("scores.json") as attempt:
        with GroupedWriter(attempt.path("scores.parquet")) as file:
            for table, seen in _origins(run, pool, left, view):
                for column in columns:
                    table = column.add_to(table, seen, start)
                file.write(table)
                lengths.append((seen.n_prompt_tokens + seen.n_response_tokens).astype(np.int32))
                start, names = start + len(seen), table.column_names
        attempt.meta = {"pool": pool.fingerprint, "rows": len(pool), "columns": names}
    _warn_of_many(run, columns, len(pool))
    run.update(scores={**left, **{each.name: each.section(len(pool)) for each in columns}})
    return np.concatenate(lengths)


def _scored(selector: Selector, seen: RowFeatures) -> tuple[Floats, Texts]:
    values = np.asarray(selector.score(seen), dtype=np.float64)
    return values, selector.reasons(seen, values)


def _others(run: Run, pool: Pool, fresh: set[str]) -> dict[str, Any]:
    """The scores that stay: those of this very pool that are not being made now."""
    found = run.store.manifest("scores.json")
    if found is None or found["pool"] != pool.fingerprint:
        return {}
    left = {*found["columns"]} - fresh
    return {name: facts for name, facts in run.section("scores").items() if name in left}


def _origins(
    run: Run, pool: Pool, left: Mapping[str, Any], view: View
) -> Iterator[tuple[pa.Table, RowFeatures]]:
    """Shard after shard, what stands there before the new scores, and what was measured of it."""
    shards = range(pool.shards)
    if not left:
        for shard in shards:
            seen, truncated = view.shard(shard)
            yield _bare(pool.table(shard, *_ORIGIN[:3]), seen, truncated), seen
        return
    names = [*_ORIGIN, *(f"{name}{end}" for name in left for end in ("", "_status", "_reason"))]
    sizes = [stop - start for start, stop in map(pool.bounds, shards)]
    tables = pieces(run.store.path("scores.parquet"), names, sizes)
    for shard, table in zip(shards, tables, strict=True):
        seen, truncated = view.shard(shard)
        if view.recount:
            fresh = _bare(table.select(_ORIGIN[:3]), seen, truncated)
            table = _beside(fresh, table.drop_columns(_ORIGIN))
        yield table, seen


def _beside(left: pa.Table, right: pa.Table) -> pa.Table:
    for name in right.column_names:
        left = left.append_column(name, right[name])
    return left


def _bare(origin: pa.Table, seen: RowFeatures, truncated: NDArray[np.bool_]) -> pa.Table:
    """What scores.parquet says of every row before any score."""
    values = (
        origin["id"].cast(pa.string()),
        origin["source"].cast(pa.string()),
        origin["row"],
        pa.array(seen.n_prompt_tokens, pa.int64()),
        pa.array(seen.n_response_tokens, pa.int64()),
        pa.array(truncated, pa.bool_()),
    )
    return pa.table(dict(zip(_ORIGIN, values, strict=True)))


def _warn_of_many(run: Run, columns: Sequence[Column], rows: int) -> None:
    for column in columns:
        bad = {why: count for why, count in sorted(column.bad.items()) if why != SKIPPED}
        if sum(bad.values()) > MANY_UNSCORABLE * rows:
            listed = ", ".join(f"{reason} {count:,}" for reason, count in bad.items())
            share = f"{sum(bad.values()):,} of {rows:,} rows"
            warn(run, [f"{share} are unscorable by {column.name}: {listed}"])


def write_scores(run: Run, pool: Pool, planned: ScorePlan, *, force: bool = False) -> Ints:
    """Write every column (scores.parquet) and run.json; the tokens of every row, [n].

    UsageError, naming what changed, where a column stands that was made otherwise.
    """
    from pilotfish.engine.shard_files import features_of_shard, load_features

    check_columns(run, planned.columns, force=force)
    keys, lengths_need = planned.key_of, planned.needs[0]
    view = View(
        shard=lambda shard: features_of_shard(pool, keys, run.store, lengths_need, shard),
        whole=lambda: load_features(pool, keys, run.store, lengths_need),
        recount=any(CASCADE in facts for facts in planned.columns.values()),
    )
    fresh = [Column(n, planned.selectors[n], facts) for n, facts in planned.columns.items()]
    lengths = write_columns(run, pool, fresh, view)
    _warn_of_padding(run, planned)
    if planned.seed == 0 or not run.section(planned.section):
        # that of seed 0, whatever others score after it
        run.update(**{planned.section: dict(planned.weak)})
    return lengths


def _warn_of_padding(run: Run, planned: ScorePlan) -> None:
    """Say so where no safe way was found to lay rows end to end: slower, and no other numbers."""
    from pilotfish.engine.shard_files import shard_path

    # one probe of the model decides for all its shards
    parts = (run.store.require(f"{shard_path(key, 0)}.json") for key in planned.keys.values())
    if {found["batching"] for found in parts} & {"padded", "masked"}:
        warn(run, [f"{planned.weak['name']} cannot be packed safely: its rows are padded"])
