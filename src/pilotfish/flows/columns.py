"""scores.parquet: every row of the pool, and for each score a value, or a status and a reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pilotfish.flows.reading import warn
from pilotfish.pool import Pool
from pilotfish.records import Floats, Seen, Texts
from pilotfish.selectors import Selector
from pilotfish.store import Run

# A score that so many rows lack deserves a warning in the report.
MANY_UNSCORABLE = 0.1

_ORIGIN = ("id", "source", "row", "n_prompt_tokens", "n_response_tokens", "truncated")


@dataclass(frozen=True, eq=False)
class Column:
    """One score of every row, and what run.json says of it."""

    name: str
    values: Floats  # [n] nan where unscorable
    reasons: Texts  # [n] "" where scored
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, selector: Selector, seen: Seen, facts: Mapping[str, Any]) -> "Column":
        """Score by a method what was measured for it."""
        values = np.asarray(selector.score(seen), dtype=np.float64)
        return cls(name, values, selector.reasons(seen, values), facts)

    @property
    def bad(self) -> NDArray[np.bool_]:
        """[n] rows without a score."""
        return np.asarray(self.reasons != "", dtype=bool)

    @property
    def counts(self) -> dict[str, int]:
        """Reason -> rows without a score."""
        names, counts = np.unique(self.reasons[self.bad].astype(str), return_counts=True)
        return {str(name): int(count) for name, count in zip(names, counts, strict=True)}

    def arrays(self) -> dict[str, pa.Array]:
        """The three columns of scores.parquet."""
        return {
            self.name: pa.array(np.where(self.bad, 0.0, self.values), pa.float64(), mask=self.bad),
            f"{self.name}_status": pa.array(np.where(self.bad, "unscorable", "ok"), pa.string()),
            f"{self.name}_reason": pa.array(self.reasons, pa.string(), mask=~self.bad),
        }


def write_columns(
    run: Run,
    pool: Pool,
    seen: Seen,
    truncated: NDArray[np.bool_],
    scored: Sequence[Column],
) -> None:
    """Commit scores.parquet with the new columns, beside those of the same pool it already has."""
    left = _others(run, pool, {column.name for column in scored})
    table = _others_table(run, left) if left else _bare(pool, seen, truncated)
    sections = dict(left)
    for column in scored:
        for name, values in column.arrays().items():
            table = table.append_column(name, values)
        sections[column.name] = {
            **column.facts, "scorable": int((~column.bad).sum()), "unscorable": column.counts,
        }  # fmt: skip
        if column.bad.mean() > MANY_UNSCORABLE:
            share = f"{int(column.bad.sum()):,} of {len(pool):,} rows"
            warn(run, [f"{share} are unscorable by {column.name}: {_listed(column.counts)}"])
    with run.store.attempt("scores.json") as attempt:
        pq.write_table(table, attempt.path("scores.parquet"), compression="zstd")
        attempt.meta = {"pool": pool.fingerprint, "rows": len(pool), "columns": table.column_names}
    run.update(scores=sections)


def _others(run: Run, pool: Pool, fresh: set[str]) -> dict[str, Any]:
    """The scores that stay: those of this very pool that are not being made now."""
    found = run.store.manifest("scores.json")
    if found is None or found["pool"] != pool.fingerprint:
        return {}
    left = {*found["columns"]} - fresh
    return {name: facts for name, facts in run.section("scores").items() if name in left}


def _others_table(run: Run, left: Mapping[str, Any]) -> pa.Table:
    columns = [f"{name}{end}" for name in left for end in ("", "_status", "_reason")]
    return pq.read_table(run.store.path("scores.parquet"), columns=[*_ORIGIN, *columns])


def _bare(pool: Pool, seen: Seen, truncated: NDArray[np.bool_]) -> pa.Table:
    """What scores.parquet says of every row before any score."""
    origin = pool.columns("id", "source", "row")
    values = (
        pa.array(origin["id"], pa.string()),
        pa.array(origin["source"], pa.string()),
        pa.array(origin["row"], pa.int64()),
        pa.array(seen.n_prompt_tokens, pa.int64()),
        pa.array(seen.n_response_tokens, pa.int64()),
        pa.array(truncated, pa.bool_()),
    )
    return pa.table(dict(zip(_ORIGIN, values, strict=True)))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))
