"""The only room that commits: temp file, fsync, rename, manifest last, lock."""

from pilotfish.store.commit import Attempt, Store, sha256_file
from pilotfish.store.leases import Leases, has_workers, tidy, working
from pilotfish.store.lock import run_lock, sweep_if_idle
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
