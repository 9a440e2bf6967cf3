"""Read data in tests, with the options of a Source as keywords."""

from pathlib import Path
from typing import Any

from pilotfish import data as reading
from pilotfish.config.data import Source
from pilotfish.data.ingest import SHARD_ROWS
from pilotfish.store import Store

NONE: frozenset[str] = frozenset()


def read(
    data: str | Path,
    store: Store,
    *,
    exclude: frozenset[str] = NONE,
    shard_rows: int = SHARD_ROWS,
    **options: Any,
) -> reading.Pool:
    source = Source(str(data), **options)
    return reading.read(source, store, exclude=exclude, shard_rows=shard_rows)


def read_rows(data: str | Path, *, exclude: frozenset[str] = NONE, **options: Any) -> reading.Rows:
    return reading.read_rows(Source(str(data), **options), exclude=exclude)


def inspect(data: str | Path, **options: Any) -> reading.Inspection:
    return reading.inspect(Source(str(data), **options))
