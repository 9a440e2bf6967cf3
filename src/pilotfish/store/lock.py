"""One planner per run: an flock on RUN/LOCK, released by the kernel when its owner dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pilotfish.errors import RunBusy, UsageError
from pilotfish.store import fs_ops
from pilotfish.store.commit import Store
from pilotfish.store.leases import no_workers


@contextmanager
def run_lock(root: Path | str) -> Iterator[Store]:
    """Hold the run's lock; RunBusy (exit 75) at once when somebody else does."""
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
        sweep_alone(store)
        yield store
    finally:
        os.close(descriptor)


def sweep_alone(store: Store) -> None:
    """Remove what workers left that died, under the lock; nothing while a rank is at work.

    What looks left behind may be the living one's.
    """
    with no_workers(store.root) as alone:
        if alone:
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
    except FileNotFoundError as error:  # where nobody can make folders: /proc, a deleted folder
        raise UsageError(
            f"the folder {folder} cannot be made", hint="choose another --out"
        ) from error
