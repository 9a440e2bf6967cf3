"""read: DATA becomes the run's pool; trusted and test rows are read beside it."""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import asdict
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
    """Whether a DATA|RUN argument names a run folder."""
    return (Path(path) / "run.json").is_file()


def open_run(root: str | Path) -> Run:
    """The run in a folder; UsageError, with the command that makes one, where there is none."""
    if not is_run(str(root)):
        raise UsageError(
            f"there is no run at {root} (no run.json)",
            hint=f"pilotfish score DATA --weak MODEL --method METHOD --out {root}",
        )
    return Run(root)


def pool_of(run: Run) -> Pool:
    """The run's pool; UsageError, naming the missing step, where it holds none."""
    if run.store.read_json("pool/manifest.json") is None:
        raise UsageError(
            f"{run.root} holds no pool yet",
            hint=f"pilotfish score DATA --weak MODEL --method METHOD --out {run.root}",
        )
    return Pool.open(run.store)


def source_of_run(run: Run) -> Source:
    """The reading options the run's pool was made with."""
    pool_of(run)
    facts = run.section("data")
    return Source(**{key: facts[key] for key in Source.__dataclass_fields__ if key in facts})


def recorded_source(run: Run, source: Source) -> Source:
    """The reading options in force: a RUN in the place of DATA stands for what it was read from."""
    if not is_run(source.data):
        return source
    if Path(source.data).resolve() != run.root.resolve():
        raise UsageError(
            f"scores stand beside their rows, and those of {source.data} are not in {run.root}",
            hint=f"leave out --out to add to {source.data}, or name the DATA itself",
        )
    if source != Source(source.data):
        raise UsageError(
            f"{source.data} was read already: options about reading come too late",
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
    """The run's pool, read now or reused; other DATA in the same run is refused by name.

    Until a pool was read nothing stands in the way of mended options.
    """
    progress.note(f"reading {source.data}")
    exclude_digest = hashlib.sha256("\n".join(sorted(exclude)).encode()).hexdigest()
    facts = redact_values({**asdict(source), "exclude": exclude_digest if exclude else None})
    free = force or not run.section("pool")
    if old := run.section("data"):  # how many bad records are borne changes no row
        run.update(data={**old, "max_bad_rate": source.max_bad_rate})
    run.fix("data", facts, force=free)
    pool = read(source.data, run.store, exclude=exclude, replace=free, **source.arguments())  # type: ignore[arg-type]
    kept = {key: pool.manifest[key] for key in ("fingerprint", "rows", "schema", "dropped")}
    run.fix("pool", {**kept, "quarantined": pool.manifest["quarantined"]}, force=free)
    warn(run, pool.warnings)
    progress.note(f"pool: {len(pool):,} rows ({pool.manifest['schema']}), {bad_rows(pool)}")
    return pool


def read_temporary(source: Source, store: Store, *, exclude: frozenset[str] = frozenset()) -> Pool:
    """A pool in a folder that does not stay, so no error names the file of bad records there."""
    try:
        return read(source.data, store, exclude=exclude, **source.arguments())  # type: ignore[arg-type]
    except DataError as error:
        said, found, _ = str(error).partition(f" Each is named in {store.root}")
        if not found:
            raise
        see = f"`pilotfish inspect {shlex.quote(source.data)}` counts them by reason"
        raise DataError(said, hint=f"{see}; {error.hint}") from error


def bad_rows(pool: Pool) -> str:
    """What did not enter the pool, in words."""
    quarantined = sum(pool.manifest["quarantined"].values())
    dropped = pool.manifest["dropped"]
    return f"{quarantined:,} quarantined, {dropped:,} dropped: a test row asks the same"


def read_extra_rows(
    source: Source,
    data: str,
    *,
    exclude: frozenset[str] = frozenset(),
    limit: int | None = None,
) -> Rows:
    """Trusted or test rows, in memory, read with the same options as the pool, its limit aside."""
    arguments = {**source.arguments(), "limit": limit}
    if not Path(data).exists():
        return read_rows(data, exclude=exclude, **arguments)  # type: ignore[arg-type]
    local = ("dataset_config", "split", "revision")
    plain = {key: value for key, value in arguments.items() if key not in local}
    return read_rows(data, exclude=exclude, **plain)  # type: ignore[arg-type]


def fingerprint(examples: Sequence[Example]) -> str:
    """sha256 over ids and contents, in order."""
    lines = "\n".join(f"{example.id}\t{example.digest}" for example in examples)
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()


def warn(run: Run, texts: Sequence[str]) -> None:
    """Add warnings to run.json, each once, for the report."""
    known = list(run.manifest.get("warnings", []))
    fresh = [text for text in texts if redact(text) not in known]
    if fresh:
        run.update(warnings=[redact(text) for text in known + fresh])
