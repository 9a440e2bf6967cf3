"""From DATA to canonical rows: sources, strict parsing, quarantine, ids, shards, overlap."""

from pilotfish.data.decontaminate import overlap_key, overlap_keys
from pilotfish.data.ingest import Rows, read, read_rows
from pilotfish.data.pool import Pool
from pilotfish.data.summary import Inspection, inspect

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
