"""From DATA to canonical rows: sources, strict parsing, quarantine, ids, shards, overlap."""

from pilotfish.pool.inspection import Inspection, inspect
from pilotfish.pool.overlap import overlap_key, overlap_keys
from pilotfish.pool.pool import Pool
from pilotfish.pool.reading import Rows, read, read_rows

__all__ = [
    "Inspection",
    "Pool",
    "Rows",
    "inspect",
    "overlap_key",
    "overlap_keys",
    "read",
    "read_rows",
]
