"""The I/O steps a commit is made of, one function each, so that a test can fail any of them."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pilotfish.errors import DiskError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG}


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn a full or failing disk into exit code 74 with a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskError(
            f"cannot write: {error.strerror} ({error.filename or 'run folder'})",
            hint="free some space, then run the same command again; finished work is kept",
        ) from error


def fsync_file(path: Path) -> None:
    """Push one file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_dir(path: Path) -> None:
    """Push a folder's names to the disk, so that a rename survives power loss."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(source: Path, target: Path) -> None:
    """Atomically give `source` the name `target`."""
    os.replace(source, target)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole small file (not yet durable)."""
    path.write_bytes(data)
