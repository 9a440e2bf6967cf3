"""The run lock: one planner per run, by an flock that the kernel releases when its owner dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pilotfish.errors import RunBusy, UsageError
from pilotfish.store import fs_ops
from pilotfish.store.commit import Store
from pilotfish.store.leases import claim_idle


@contextmanager
def run_lock(root: Path | str) -> Iterator[Store]:
    """Hold the lock RUN/LOCK, and remove what dead workers left behind.

    Args:
        root: The run folder; it is made where it does not exist.

    Yields:
        The store of the run.

    Raises:
        RunBusy: Another process holds the lock. Raised at once, without waiting.
        UsageError: The run folder cannot be made.
    """
    folder = Path(root)
    with fs_ops.disk_errors():
        _make(folder)
        descriptor = os.open(folder / "LOCK", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunBusy(
                f"another pilotfish process is working on {folder}",
                hint="wait for it, or choose another --out",
            ) from error
        store = Store(folder)
        sweep_if_idle(store)
        yield store
    finally:
        os.close(descriptor)


def sweep_if_idle(store: Store) -> None:
    """Remove temp files that dead workers left behind, unless a rank takes part in the run.

    Call it under the run lock. A temp file may belong to a rank that is still writing it.
    """
    with claim_idle(store.root) as idle:
        if idle:
            store.sweep()


def _make(folder: Path) -> None:
    try:
        fs_ops.make_dirs(folder)
        if not folder.is_dir():
            raise NotADirectoryError
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            f"{folder} cannot be a run folder: a file is in its place",
            hint="choose another --out",
        ) from error
    except FileNotFoundError as error:  # no folder can be made there: /proc, a deleted folder
        raise UsageError(
            f"the folder {folder} cannot be made", hint="choose another --out"
        ) from error
