"""The pool of a run: open it, read DATA into it, and read trusted or test rows alongside."""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pilotfish.config.data import Source
from pilotfish.data.ingest import Rows, read, read_rows
from pilotfish.data.pool import Pool
from pilotfish.errors import DataError, UsageError
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Example
from pilotfish.redaction import redact, redact_values
from pilotfish.store import Run, Store


def is_run(path: str) -> bool:
    """Return whether a DATA|RUN argument names a run folder."""
    return (Path(path) / "run.json").is_file()


def open_run(root: str | Path) -> Run:
    """Open the run in a folder.

    Raises:
        UsageError: There is none; the hint is the command that makes one.
    """
    if not is_run(str(root)):
        raise UsageError(
            f"there is no run at {root} (no run.json)",
            hint=f"pilotfish score DATA --weak MODEL --method METHOD --out {root}",
        )
    return Run(root)


def pool_of(run: Run) -> Pool:
    """Open the run's pool.

    Raises:
        UsageError: The run has none yet; the hint is the missing step.
    """
    if run.store.read_json("pool/manifest.json") is None:
        raise UsageError(
            f"{run.root} holds no pool yet",
            hint=f"pilotfish score DATA --weak MODEL --method METHOD --out {run.root}",
        )
    return Pool.open(run.store)


def source_of_run(run: Run) -> Source:
    """Return the reading options that the run's pool was made with."""
    pool_of(run)
    facts = run.section("data")
    return Source(**{key: facts[key] for key in Source.__dataclass_fields__ if key in facts})


def recorded_source(run: Run, source: Source) -> Source:
    """Resolve the reading options of a command: a RUN given as DATA means what it was read from.

    Raises:
        UsageError: DATA is another run, or a run together with options about reading.
    """
    if not is_run(source.data):
        return source
    if Path(source.data).resolve() != run.root.resolve():
        raise UsageError(
            f"scores are kept in the run of their rows, and the rows of {source.data} are not in"
            f" {run.root}",
            hint=f"leave out --out to add to {source.data}, or name the DATA itself",
        )
    if source != Source(source.data):
        raise UsageError(
            f"{source.data} has been read already: options about reading come too late",
            hint="leave them out, or read DATA into another --out",
        )
    return source_of_run(run)


def open_pool(
    run: Run,
    source: Source,
    *,
    exclude: frozenset[str] = frozenset(),
    force: bool = False,
    progress: Progress = SILENT,
) -> Pool:
    """Read DATA into the run's pool, or reuse the pool that an equal read left.

    Args:
        run: The run.
        source: DATA and how to read it.
        exclude: `overlap_keys` of the test data; rows that match are dropped.
        force: Replace a pool of other data.
        progress: Receives notes.

    Raises:
        UsageError: The run holds other data, and `force` is off. Until a pool has been read, the
            options may change freely.
    """
    progress.note(f"reading {source.data}")
    exclude_digest = hashlib.sha256("\n".join(sorted(exclude)).encode()).hexdigest()
    facts = redact_values({**asdict(source), "exclude": exclude_digest if exclude else None})
    free = force or not run.section("pool")
    if old := run.section("data"):  # how many bad records are tolerated changes no row
        run.update(data={**old, "max_bad_rate": source.max_bad_rate})
    run.fix("data", facts, force=free)
    pool = read(source, run.store, exclude=exclude, replace=free)
    found = {key: pool.manifest[key] for key in ("fingerprint", "rows", "schema", "dropped")}
    run.fix("pool", {**found, "quarantined": pool.manifest["quarantined"]}, force=free)
    warn(run, pool.warnings)
    quarantined = sum(pool.manifest["quarantined"].values())
    progress.note(
        f"pool: {len(pool):,} rows ({pool.schema}), {quarantined:,} quarantined,"
        f" {found['dropped']:,} dropped: a test row has the same prompt"
    )
    return pool


def read_temporary(source: Source, store: Store, *, exclude: frozenset[str] = frozenset()) -> Pool:
    """Read DATA into a folder that will be deleted, so that no error points into it."""
    try:
        return read(source, store, exclude=exclude)
    except DataError as error:
        message, found, _ = str(error).partition(f" Each is named in {store.root}")
        if not found:
            raise
        see = f"`pilotfish inspect {shlex.quote(source.data)}` counts them by reason"
        raise DataError(message, hint=f"{see}; {error.hint}") from error


def read_extra_rows(
    source: Source,
    data: str,
    *,
    exclude: frozenset[str] = frozenset(),
    limit: int | None = None,
) -> Rows:
    """Read trusted or test rows into memory, with the pool's reading options except its limit.

    Args:
        source: The reading options of the pool. Those about hub datasets do not apply to local
            `data`.
        data: The rows to read.
        exclude: `overlap_keys` of the test data; rows that match are dropped.
        limit: Records to read at most.
    """
    options = replace(source, data=data, limit=limit)
    if Path(data).exists():
        options = replace(options, dataset_config=None, split=None, revision=None)
    return read_rows(options, exclude=exclude)


def fingerprint(examples: Sequence[Example]) -> str:
    """Return sha256 over ids and contents, in order."""
    lines = "\n".join(f"{example.id}\t{example.digest}" for example in examples)
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()


def warn(run: Run, texts: Sequence[str]) -> None:
    """Add warnings to run.json for the report, each once."""
    known = list(run.manifest.get("warnings", []))
    fresh = [text for text in texts if redact(text) not in known]
    if fresh:
        run.update(warnings=[redact(text) for text in known + fresh])
