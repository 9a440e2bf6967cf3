"""Leases: which of several workers has which part of a run in hand, freed when a worker dies.

A lease only spares work done twice. What makes two workers on one part harmless is that writes are
idempotent: flock is unreliable on some network disks.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pilotfish.store.fs_ops import disk_errors

FOLDER = "leases"
_ALIVE = "alive"
# What a file system without flock says: then nobody is kept away.
_NO_FLOCK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


class Leases:
    """The leases of one worker below a run; open them with `working`."""

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER
        self._held: dict[str, int] = {}

    def take(self, name: str) -> bool:
        """Lease a part; False where another worker has it. What is held already stays held."""
        if name not in self._held:
            descriptor = _lock(self._folder / name, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if descriptor is None:
                return False
            self._held[name] = descriptor
        return True

    def release(self, name: str) -> None:
        """Give a part back; nothing where it is not held."""
        descriptor = self._held.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def release_all(self) -> None:
        """Give everything back."""
        for name in list(self._held):
            self.release(name)


@contextmanager
def working(root: Path | str) -> Iterator[Leases]:
    """Take part in a run: while anybody does, no temp file in it is swept away."""
    with disk_errors():
        alive = _lock(Path(root) / FOLDER / _ALIVE, fcntl.LOCK_SH)
    leases = Leases(Path(root))
    try:
        yield leases
    finally:
        leases.release_all()
        if alive is not None:
            os.close(alive)


@contextmanager
def no_workers(root: Path | str) -> Iterator[bool]:
    """Whether no worker takes part in the run; where that is so none can join meanwhile."""
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
    """Whether a worker takes part in the run right now."""
    with no_workers(root) as alone:
        return not alone


def tidy(root: Path | str) -> None:
    """Remove the leases of a run where nobody works any more."""
    with no_workers(root) as alone:
        if alone:
            shutil.rmtree(Path(root) / FOLDER, ignore_errors=True)


def _lock(path: Path, mode: int) -> int | None:
    """A descriptor that holds an flock on the file of that name; None where it is taken."""
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
        if _is(path, descriptor):
            return descriptor
        os.close(descriptor)  # a lock on a file that was tidied away holds nobody off


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
