"""Locks of a run, held by flock: the kernel releases them when their owner dies.

One process at a time plans a run (`run_lock`). Workers lease parts of a run, so that they do not
do the same work twice. Leases save work and protect nothing: flock is unreliable on some network
disks, so two workers on one part must be harmless, and they are, because writes are idempotent.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pilotfish.errors import RunBusy, UsageError
from pilotfish.store import fs_ops
from pilotfish.store.commit import Store

FOLDER = "leases"
_ALIVE = "alive"
# Errors of a file system without flock: every lease is then granted.
_NO_FLOCK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


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
        _make_folder(folder)
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


class Leases:
    """The leases of one worker below a run; open them with `working`."""

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER
        self._held: dict[str, int] = {}

    def take(self, name: str) -> bool:
        """Lease a part; return False where another worker holds it. Taking it twice is harmless."""
        if name not in self._held:
            descriptor = _lock(self._folder / name, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if descriptor is None:
                return False
            self._held[name] = descriptor
        return True

    def release(self, name: str) -> None:
        """Give a part back; do nothing where it is not held."""
        descriptor = self._held.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def release_all(self) -> None:
        """Give everything back."""
        for name in list(self._held):
            self.release(name)


@contextmanager
def working(root: Path | str) -> Iterator[Leases]:
    """Take part in a run: no temp file in it is swept away inside the context."""
    with fs_ops.disk_errors():
        alive = _lock(Path(root) / FOLDER / _ALIVE, fcntl.LOCK_SH)
    leases = Leases(Path(root))
    try:
        yield leases
    finally:
        leases.release_all()
        if alive is not None:
            os.close(alive)


@contextmanager
def claim_idle(root: Path | str) -> Iterator[bool]:
    """Yield whether no worker takes part in the run; if so, none can join inside the context."""
    if not (Path(root) / FOLDER).is_dir():
        yield True
        return
    alone = _lock(Path(root) / FOLDER / _ALIVE, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield alone is not None
    finally:
        if alone is not None:
            os.close(alone)


def has_workers(root: Path | str) -> bool:
    """Return whether a worker takes part in the run right now."""
    with claim_idle(root) as idle:
        return not idle


def tidy(root: Path | str) -> None:
    """Remove the leases of a run in which no worker takes part any more."""
    with claim_idle(root) as idle:
        if idle:
            shutil.rmtree(Path(root) / FOLDER, ignore_errors=True)


def _lock(path: Path, mode: int) -> int | None:
    """Return a descriptor that holds an flock on the file, or None where it is taken."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # tidied away since the line before
            continue
        try:
            fcntl.flock(descriptor, mode)
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    return None
                raise
        try:
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # a lock on a file that was tidied away excludes no other worker


def _make_folder(folder: Path) -> None:
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
