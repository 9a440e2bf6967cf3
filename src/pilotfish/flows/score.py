"""score: measure what the methods need, once, and write one column per method."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.config import Method, TuneConfig
from pilotfish.errors import UsageError
from pilotfish.flows.costs import known, reading_flops
from pilotfish.flows.extras import need_torch
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.flows.reading import Source, open_pool, read_beside, warn
from pilotfish.flows.weak import weak_model
from pilotfish.pool import Pool
from pilotfish.records import Seen
from pilotfish.selectors import Selector, make
from pilotfish.store import Run, run_lock

if TYPE_CHECKING:
    from pilotfish.models import Loaded

# A row whose score is missing this often deserves a warning in the report.
MANY_UNSCORABLE = 0.1


@dataclass(frozen=True)
class Measuring:
    """How the weak model looks at rows."""

    max_length: int | None = None
    precision: str = "auto"
    seed: int = 0
    token_budget: int | None = None
    tune: TuneConfig | None = None
    trusted: str | None = None  # where the rows the weak model was tuned on came from


def score(
    out: str,
    source: Source,
    weak: str,
    methods: Sequence[Method],
    *,
    names: Sequence[str] = (),
    trusted: str | None = None,
    direction: str | None = None,
    measuring: Measuring | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Run:
    """Read DATA (or reuse RUN's pool), measure with the weak model, add score columns to RUN."""
    need_torch("scoring")
    how = replace(measuring or Measuring(), trusted=trusted)
    with run_lock(out) as store:
        # after the lock: a second planner is turned away before torch is loaded
        from pilotfish.models import settle_threads

        run = Run(store.root)
        pool = open_pool(run, source, force=force, progress=progress)
        vouched = read_beside(source, trusted).examples if trusted else []
        loaded = weak_model(
            run, weak, trusted=vouched, seed=how.seed, config=how.tune,
            precision=how.precision, progress=progress,
        )  # fmt: skip
        settle_threads(loaded.parameters)
        columns = name_columns(methods, names)
        add_scores(
            run, pool, loaded, columns, how=how, direction=direction, force=force, progress=progress
        )
        run.update(status="scored")
    return run


def name_columns(methods: Sequence[Method], names: Sequence[str]) -> dict[str, Method]:
    """Column name -> method: `--as` names in order, else each method's text."""
    if names and len(names) != len(methods):
        raise UsageError(f"--as gives {len(names)} names for {len(methods)} methods")
    columns = dict(zip(names or [method.text for method in methods], methods, strict=True))
    if len(columns) != len(methods):
        raise UsageError("two methods would share one column name", hint="name them with --as")
    return columns


def add_scores(
    run: Run,
    pool: Pool,
    weak: "Loaded",
    columns: Mapping[str, Method],
    *,
    how: Measuring,
    direction: str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> None:
    """Measure the union of needs and write every column of `columns` (scores.parquet)."""
    from pilotfish.encode import clamp_max_length
    from pilotfish.engine import LENGTHS, Receipt, load_seen, measure

    selectors = {name: make(method, direction) for name, method in columns.items()}
    needs = list(dict.fromkeys(need for each in selectors.values() for need in each.needs))
    needs = needs or [LENGTHS]
    max_length = clamp_max_length(how.max_length or 1024, weak.window)
    start = time.monotonic()
    receipts: list[Receipt] = []
    keys = measure(
        pool, needs, weak, max_length=max_length, store=run.store,
        token_budget=how.token_budget,
        on_progress=lambda done, total: progress.step("measure", done, total),
        on_receipt=receipts.append,
    )  # fmt: skip
    seen, truncated = load_seen(pool, keys, run.store, needs[0])
    facts = {
        name: {
            "method": columns[name].text,
            "direction": selector.direction,
            "keys": {need.name: keys[need] for need in selector.needs},
            "weak": weak.digest,
            "max_length": max_length,
            "seed": how.seed,
        }
        for name, selector in selectors.items()
    }
    _refuse_reuse(run, facts, force=force)
    _write(run, pool, seen, truncated, selectors, facts)
    _weak_section(run, weak, max_length, how)
    # only what was measured now is paid for now: reused shards left their cost in earlier events
    share = sum(done.rows * len(done.measured) for done in receipts) / max(len(pool), 1)
    tokens = share * float(seen.n_prompt_tokens.sum() + seen.n_response_tokens.sum())
    flops = 0.0 if needs == [LENGTHS] else reading_flops(weak, tokens)
    run.cost(
        "score", ",".join(columns), seconds=time.monotonic() - start, rows=len(pool),
        tokens=tokens, **known(flops=flops),
    )  # fmt: skip


def _weak_section(run: Run, weak: "Loaded", max_length: int, how: Measuring) -> None:
    if how.seed == 0 or not run.section("weak"):
        run.update(
            weak={
                "name": weak.name,
                "digest": weak.digest,
                "tokenizer_digest": weak.tokenizer_digest,
                "parameters": weak.parameters,
                "trusted": how.trusted,
                "window": weak.window,
                "max_length": max_length,
                "precision": str(weak.dtype).removeprefix("torch."),
            }
        )


def _refuse_reuse(run: Run, facts: Mapping[str, Mapping[str, Any]], *, force: bool) -> None:
    known = run.section("scores")
    for name, fact in facts.items():
        old = {key: known[name].get(key) for key in fact} if name in known else None
        if old is not None and old != fact and not force:
            changed = sorted(key for key in fact if old[key] != fact[key])
            raise UsageError(
                f"the run already has a score '{name}' made with another {', '.join(changed)}",
                hint="name the new one with --as, or pass --force to replace it",
            )


def _write(
    run: Run,
    pool: Pool,
    seen: Seen,
    truncated: np.ndarray[Any, Any],
    selectors: Mapping[str, Selector],
    facts: Mapping[str, Mapping[str, Any]],
) -> None:
    store = run.store
    known = run.section("scores")
    origin = pool.columns("id", "source", "row")
    if known and store.manifest("scores.json"):
        table = pq.read_table(store.path("scores.parquet"))
        again = {f"{name}{end}" for name in selectors for end in ("", "_status", "_reason")}
        table = table.drop_columns([name for name in table.column_names if name in again])
    else:
        table = pa.table(
            {
                "id": pa.array(origin["id"], pa.string()),
                "source": pa.array(origin["source"], pa.string()),
                "row": pa.array(origin["row"], pa.int64()),
                "n_prompt_tokens": pa.array(seen.n_prompt_tokens, pa.int64()),
                "n_response_tokens": pa.array(seen.n_response_tokens, pa.int64()),
                "truncated": pa.array(truncated, pa.bool_()),
            }
        )
        known = {}
    sections = dict(known)
    for name, selector in selectors.items():
        values = np.asarray(selector.score(seen), dtype=np.float64)
        reasons = selector.reasons(seen, values)
        bad = reasons != ""
        columns = (
            pa.array(np.where(bad, 0.0, values), pa.float64(), mask=bad),
            pa.array(np.where(bad, "unscorable", "ok").astype(object), pa.string()),
            pa.array(reasons, pa.string(), mask=~bad),
        )
        for end, column in zip(("", "_status", "_reason"), columns, strict=True):
            table = table.append_column(f"{name}{end}", column)
        counted = {
            str(k): int(v)
            for k, v in zip(*np.unique(reasons[bad].astype(str), return_counts=True), strict=True)
        }
        sections[name] = {**facts[name], "scorable": int((~bad).sum()), "unscorable": counted}
        if bad.mean() > MANY_UNSCORABLE:
            share = f"{int(bad.sum()):,} of {len(bad):,} rows"
            warn(run, [f"{share} are unscorable by {name}: {_listed(counted)}"])
    with store.attempt("scores.json") as attempt:
        pq.write_table(table, attempt.path("scores.parquet"), compression="zstd")
        attempt.meta = {"pool": pool.fingerprint, "rows": len(pool), "columns": table.column_names}
    run.update(scores=sections)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))


def scores_digest(run: Run) -> str:
    """sha256 that changes whenever scores.parquet does."""
    manifest = run.store.require("scores.json")
    return hashlib.sha256(json.dumps(manifest["files"], sort_keys=True).encode()).hexdigest()
