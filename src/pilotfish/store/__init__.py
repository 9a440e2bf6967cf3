"""The only room that commits: temp file, fsync, rename, manifest last, lock."""

from pilotfish.store.commit import Attempt, Store, sha256_file
from pilotfish.store.leases import Leases, somebody_working, tidy, working
from pilotfish.store.lock import run_lock, sweep_alone
from pilotfish.store.run import Run

__all__ = [
    "Attempt",
    "Leases",
    "Run",
    "Store",
    "run_lock",
    "sha256_file",
    "somebody_working",
    "sweep_alone",
    "tidy",
    "working",
]
