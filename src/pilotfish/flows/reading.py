"""read: DATA becomes the run's pool; trusted and test rows are read beside it."""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pilotfish.errors import UsageError
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.pool import Pool, Rows, overlap_keys, read, read_rows
from pilotfish.records import Example
from pilotfish.store import Run, Store


@dataclass(frozen=True)
class Source:
    """What is read and how: the same options wherever data is read."""

    data: str
    mapping: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    max_bad_rate: float = 0.01
    dataset_config: str | None = None
    split: str | None = None
    revision: str | None = None

    def arguments(self) -> dict[str, object]:
        """Everything but `data`, as the pool's readers take it."""
        facts = asdict(self)
        del facts["data"]
        return facts


def is_run(path: str) -> bool:
    """Whether a DATA|RUN argument names a run folder."""
    return (Path(path) / "run.json").is_file()


def open_pool(
    run: Run,
    source: Source,
    *,
    exclude: frozenset[str] = frozenset(),
    force: bool = False,
    progress: Progress = SILENT,
) -> Pool:
    """The run's pool, read now or reused; other DATA in the same run is refused by name."""
    if is_run(source.data):
        return Pool.open(Store(source.data))
    progress.note(f"reading {source.data}")
    exclude_digest = hashlib.sha256("\n".join(sorted(exclude)).encode()).hexdigest()
    facts = {**asdict(source), "exclude": exclude_digest if exclude else None}
    run.fix("data", facts, force=force)
    pool = read(source.data, run.store, exclude=exclude, **source.arguments())  # type: ignore[arg-type]
    kept = {key: pool.manifest[key] for key in ("fingerprint", "rows", "schema", "dropped")}
    run.fix("pool", {**kept, "quarantined": pool.manifest["quarantined"]}, force=force)
    warn(run, pool.warnings)
    progress.note(f"pool: {len(pool):,} rows ({pool.manifest['schema']}), {bad_rows(pool)}")
    return pool


def bad_rows(pool: Pool) -> str:
    """What did not enter the pool, in words."""
    quarantined = sum(pool.manifest["quarantined"].values())
    dropped = pool.manifest["dropped"]
    return f"{quarantined:,} quarantined, {dropped:,} dropped because they stand in the test data"


def read_beside(source: Source, data: str, *, exclude: frozenset[str] = frozenset()) -> Rows:
    """Trusted or test rows, in memory, read with the same options as the pool (no limit)."""
    arguments = {**source.arguments(), "limit": None}
    if not Path(data).exists():
        return read_rows(data, exclude=exclude, **arguments)  # type: ignore[arg-type]
    local = ("dataset_config", "split", "revision")
    plain = {key: value for key, value in arguments.items() if key not in local}
    return read_rows(data, exclude=exclude, **plain)  # type: ignore[arg-type]


def hold_out(
    examples: Sequence[Example], count: int, seed: int
) -> tuple[list[Example], list[Example]]:
    """Split by keyed hash of the content: (rest, held out), whatever the order of the rows."""

    def key(example: Example) -> bytes:
        return hashlib.blake2b(f"{seed}:{example.digest}".encode(), digest_size=16).digest()

    ranked = sorted(examples, key=key)
    held = overlap_keys(ranked[:count])
    rest = [example for example in examples if not overlap_keys([example]) & held]
    return rest, [example for example in examples if overlap_keys([example]) & held]


def hold_out_of_pool(source: Source, count: int, seed: int) -> list[Example]:
    """Rows of DATA kept apart for judging, chosen by hash before anything is measured."""
    with tempfile.TemporaryDirectory() as folder:
        pool = read(source.data, Store(folder), **source.arguments())  # type: ignore[arg-type]
        if len(pool) < 4:
            raise UsageError(
                f"{source.data} has {len(pool)} usable rows: too few to hold some out for judging",
                hint="give held-out rows with --test",
            )
        digests = [str(value) for value in pool.columns("digest")["digest"]]
        count = min(count, len(pool) // 4)
        ranked = sorted(range(len(pool)), key=lambda i: _keyed(seed, digests[i]))
        return pool.take(sorted(ranked[:count]))


def _keyed(seed: int, digest: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{digest}".encode(), digest_size=16).digest()


def warn(run: Run, texts: Sequence[str]) -> None:
    """Add warnings to run.json, each once, for the report."""
    known = list(run.manifest.get("warnings", []))
    fresh = [text for text in texts if text not in known]
    if fresh:
        run.update(warnings=known + fresh)
