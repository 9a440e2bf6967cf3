"""Leases: locks on parts of a run, so that several workers do not do the same work twice.

The kernel releases a lease when its worker dies. Leases save work and protect nothing: flock is
unreliable on some network disks, so two workers on one part must be harmless, and they are, because
writes are idempotent.
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
# Errors of a file system without flock: every lease is then granted.
_NO_FLOCK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


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
        if _is(path, descriptor):
            return descriptor
        os.close(descriptor)  # a lock on a file that was tidied away keeps no one out


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
