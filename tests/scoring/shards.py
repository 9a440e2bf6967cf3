"""Runs whose pool lies in several small shards, so that several workers have something to share."""

import hashlib
from dataclasses import asdict
from pathlib import Path

from pilotfish.config.data import Source
from pilotfish.store import Run
from tests.experiments.worlds import rows, write
from tests.reading import read


def sharded(root: Path, *, count: int = 40, shard_rows: int = 6) -> str:
    """A run that was read, not scored: the folder, to be scored as `score RUN`."""
    # every run names the same data, so that equal runs are equal to the byte
    data = write(root.parent / "rows.jsonl", rows(count))
    run = Run(root)
    pool = read(data, run.store, shard_rows=shard_rows)
    run.update(
        data={**asdict(Source(data)), "exclude": None},
        pool={"fingerprint": pool.fingerprint, "rows": len(pool)},
    )
    return str(root)


def hashes(root: Path) -> dict[str, str]:
    """Every file of a run but the event log (times) and the lock."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in ("events.jsonl", "LOCK")
    }
