"""Commit files to a run folder: temp file, fsync, rename, manifest last, under a lock."""

from pilotfish.store.commit import Attempt, Store, sha256_file
from pilotfish.store.locks import Leases, has_workers, run_lock, sweep_if_idle, tidy, working
from pilotfish.store.run import Run

__all__ = [
    "Attempt",
    "Leases",
    "Run",
    "Store",
    "has_workers",
    "run_lock",
    "sha256_file",
    "sweep_if_idle",
    "tidy",
    "working",
]
