"""The I/O steps a commit is made of, one function each, so that a test can fail any of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pilotfish.errors import DiskError


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn a full, failing or forbidden disk into exit code 74 with a sentence."""
    try:
        yield
    except Exception as error:
        if found := DiskError.of(error):
            raise found from error
        raise


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
