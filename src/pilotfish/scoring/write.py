"""Write a scoring to the run: its costs shard by shard, and scores.parquet.

scores.parquet holds every row of the pool and, for each score, a value or a status and a reason. It
is written shard after shard; only a method that looks at other rows too is shown all of them.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pilotfish.data import Pool
from pilotfish.data.pool import GroupedWriter, pieces
from pilotfish.data.run_pool import warn
from pilotfish.engine.executors.launch import passes
from pilotfish.flops import RESUME, charged_flops
from pilotfish.methods import Selector
from pilotfish.records import SKIPPED, Floats, Need, RowFeatures, Texts
from pilotfish.run_context import RunContext
from pilotfish.scoring.cascade_rows import CASCADE
from pilotfish.scoring.setup import ScorePlan, ScoreSetup, check_columns
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.engine.scorer import Receipt

# A share of unscorable rows that deserves a warning in the report.
MANY_UNSCORABLE = 0.1
_ORIGIN = ("id", "source", "row", "n_prompt_tokens", "n_response_tokens", "truncated")
Features = tuple[RowFeatures, NDArray[np.bool_]]  # of some rows, and whether each is truncated [n]


class CostTracker:
    """Records scoring cost per shard, so an interrupted run loses at most one shard's accounting.

    Each event of the stage `score` counts the seconds since the one before it. A shard that was
    intact costs nothing: it was recorded by an earlier command, or by another rank.
    """

    def __init__(self, run: Run, columns: Iterable[str]) -> None:
        self._run, names = run, [*columns]
        self._name = ",".join(names)
        self._known = {*names} <= {*run.section("scores")}
        self._last, self._worked = time.monotonic(), False

    def record_shard(
        self,
        setup: ScoreSetup,
        receipt: "Receipt",
        keys: Mapping[Need, str],
        rows: NDArray[np.bool_] | None = None,
    ) -> None:
        """Record a finished shard.

        Args:
            setup: The scoring.
            receipt: Of the shard.
            keys: The cache key of each need.
            rows: [n] the rows of the pool that the model reads; None: all.
        """
        if not receipt.measured:
            return
        from pilotfish.engine.shard_files import features_of_shard

        def lengths_of(shard: int) -> NDArray[Any]:
            """Return [n] the tokens of each row as the model read it."""
            need = next(iter(keys))
            seen, _ = features_of_shard(
                setup.pool, {need: keys[need]}, self._run.store, need, shard
            )
            lengths = seen.n_prompt_tokens + seen.n_response_tokens
            return lengths if read is None else np.where(read, lengths, 0)

        read = None if rows is None else rows[slice(*setup.pool.bounds(receipt.shard))]
        paid = passes([need for need, key in keys.items() if key in receipt.measured])
        spent = charged_flops(setup.weak, {receipt.shard: paid}, lengths_of)
        self.record(rows=receipt.rows if read is None else int(read.sum()), **spent)

    def record(self, **facts: float) -> None:
        """Record work of the stage `score`, with the seconds since the last event."""
        self._worked = True
        self._event("score", **facts)

    def record_rest(self) -> None:
        """Record the time since the last shard; the stage is `resume` if nothing was measured."""
        if self._known and not self._worked:
            self._event(RESUME, rows=0, tokens=0, flops=0)  # no part of the cost of selecting
        else:
            self._event("score", rows=0)

    def _event(self, stage: str, **facts: float) -> None:
        now = time.monotonic()
        self._run.cost(stage, self._name, seconds=now - self._last, **facts)
        self._last = now


@dataclass(frozen=True)
class View:
    """Reads what was measured, of one shard or of the whole pool."""

    shard: Callable[[int], Features]
    whole: Callable[[], Features]
    recount: bool = False  # whether these token counts replace those in scores.parquet


@dataclass(eq=False)
class Column:
    """One score column while it is written."""

    name: str
    selector: Selector
    facts: Mapping[str, Any]  # that run.json keeps of it
    unscorable: Counter[str] = field(default_factory=Counter)  # reason -> rows so far
    _whole: tuple[Floats, Texts] | None = None  # of every row, for a method that looks at all

    def prepare(self, view: View) -> None:
        """Score the whole pool now if a row's score depends on the other rows."""
        if self.selector.pool_relative:
            self._whole = _scored(self.selector, view.whole()[0])

    def append_to(self, table: pa.Table, seen: RowFeatures, start: int) -> pa.Table:
        """Return rows of scores.parquet, from `start` on, with the three columns of this score."""
        if self._whole is None:
            values, reasons = _scored(self.selector, seen)
        else:
            rows = slice(start, start + len(seen))
            values, reasons = self._whole[0][rows], self._whole[1][rows]
        bad = np.asarray(reasons != "", dtype=bool)
        self.unscorable.update(map(str, reasons[bad]))
        arrays = {
            self.name: pa.array(np.where(bad, 0.0, values), pa.float64(), mask=bad),
            f"{self.name}_status": pa.array(np.where(bad, "unscorable", "ok"), pa.string()),
            f"{self.name}_reason": pa.array(reasons, pa.string(), mask=~bad),
        }
        for name, array in arrays.items():
            table = table.append_column(name, array)
        return table


def write_scores(ctx: RunContext, pool: Pool, plan: ScorePlan) -> None:
    """Write every column of a finished plan to scores.parquet, and its facts to run.json.

    Raises:
        UsageError: A column of this name was made with other settings, which are named.
    """
    from pilotfish.engine.shard_files import features_of_shard, load_features, shard_path

    check_columns(ctx, plan.columns)
    run, lengths_need = ctx.run, plan.needs[0]
    keys = {need: plan.keys[need.name] for need in plan.needs}
    view = View(
        shard=lambda shard: features_of_shard(pool, keys, run.store, lengths_need, shard),
        whole=lambda: load_features(pool, keys, run.store, lengths_need),
        recount=any(CASCADE in facts for facts in plan.columns.values()),
    )
    columns = [Column(n, plan.selectors[n], facts) for n, facts in plan.columns.items()]
    write_columns(run, pool, columns, view)
    # one probe of the model decides for all its shards whether rows can be packed
    parts = (run.store.require(f"{shard_path(key, 0)}.json") for key in plan.keys.values())
    if {found["batching"] for found in parts} & {"padded", "masked"}:
        warn(run, [f"{plan.weak['name']} cannot be packed safely: its rows are padded"])
    if plan.seed == 0 or not run.section(plan.section):
        # the facts of seed 0 stay, whichever seeds are scored after it
        run.update(**{plan.section: dict(plan.weak)})


def write_columns(run: Run, pool: Pool, columns: Sequence[Column], view: View) -> None:
    """Commit scores.parquet with new columns, next to those that it has of the same pool."""
    new = {column.name for column in columns}
    stored = run.store.manifest("scores.json")
    kept: dict[str, Any] = {}
    if stored is not None and stored["pool"] == pool.fingerprint:
        left = {*stored["columns"]} - new
        kept = {name: facts for name, facts in run.section("scores").items() if name in left}
    start, names = 0, list[str]()
    for column in columns:
        column.prepare(view)
    with run.store.attempt("scores.json") as attempt:
        with GroupedWriter(attempt.path("scores.parquet")) as file:
            for table, seen in _rows_so_far(run, pool, kept, view):
                for column in columns:
                    table = column.append_to(table, seen, start)
                file.write(table)
                start, names = start + len(seen), table.column_names
        attempt.meta = {"pool": pool.fingerprint, "rows": len(pool), "columns": names}
    n, sections = len(pool), dict(kept)
    for column in columns:
        counts = dict(sorted(column.unscorable.items()))
        scorable = n - column.unscorable.total()
        sections[column.name] = {**column.facts, "scorable": scorable, "unscorable": counts}
        bad = {reason: count for reason, count in counts.items() if reason != SKIPPED}
        if sum(bad.values()) > MANY_UNSCORABLE * n:
            listed = ", ".join(f"{reason} {count:,}" for reason, count in bad.items())
            share = f"{sum(bad.values()):,} of {n:,} rows"
            warn(run, [f"{share} are unscorable by {column.name}: {listed}"])
    run.update(scores=sections)


def _scored(selector: Selector, seen: RowFeatures) -> tuple[Floats, Texts]:
    """Return the scores [n] of some rows, and the reason [n] of each unscorable one."""
    values = np.asarray(selector.score(seen), dtype=np.float64)
    return values, selector.reasons(seen, values)


def _rows_so_far(
    run: Run, pool: Pool, kept: Mapping[str, Any], view: View
) -> Iterator[tuple[pa.Table, RowFeatures]]:
    """Yield shard after shard the columns before the new scores, and the features of the rows."""
    shards = range(pool.shards)
    if not kept:
        for shard in shards:
            seen, truncated = view.shard(shard)
            yield _origin(pool.table(shard, *_ORIGIN[:3]), seen, truncated), seen
        return
    names = [*_ORIGIN, *(f"{name}{end}" for name in kept for end in ("", "_status", "_reason"))]
    sizes = [stop - start for start, stop in map(pool.bounds, shards)]
    tables = pieces(run.store.path("scores.parquet"), names, sizes)
    for shard, table in zip(shards, tables, strict=True):
        seen, truncated = view.shard(shard)
        if view.recount:
            scores = table.drop_columns(_ORIGIN)
            table = _origin(table.select(_ORIGIN[:3]), seen, truncated)
            for name in scores.column_names:
                table = table.append_column(name, scores[name])
        yield table, seen


def _origin(table: pa.Table, seen: RowFeatures, truncated: NDArray[np.bool_]) -> pa.Table:
    """Return the columns that every row has before any score."""
    values = (
        table["id"].cast(pa.string()),
        table["source"].cast(pa.string()),
        table["row"],
        pa.array(seen.n_prompt_tokens, pa.int64()),
        pa.array(seen.n_response_tokens, pa.int64()),
        pa.array(truncated, pa.bool_()),
    )
    return pa.table(dict(zip(_ORIGIN, values, strict=True)))
