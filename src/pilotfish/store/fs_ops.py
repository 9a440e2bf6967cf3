"""The steps that change a run on disk, one function each, so that tests can make any of them fail.

Libraries write to a temp file first; that write counts with the `fsync_file` that ends it.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pilotfish.errors import DiskError


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn a full, failing or forbidden disk into a DiskError (exit code 74)."""
    try:
        yield
    except Exception as error:
        if found := DiskError.of(error):
            raise found from error
        raise


def fsync_file(path: Path) -> None:
    """Flush one file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_dir(path: Path) -> None:
    """Flush a folder's names to the disk, so that a rename survives power loss."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(source: Path, target: Path) -> None:
    """Give `source` the name `target` atomically."""
    os.replace(source, target)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole small file (not yet durable)."""
    path.write_bytes(data)


def append(path: Path, data: bytes) -> None:
    """Add bytes to the end of a file (not durable: a log for people)."""
    with path.open("ab") as handle:
        handle.write(data)


def make_dir(path: Path) -> None:
    """Create one folder (its name not yet durable)."""
    path.mkdir()


def make_dirs(path: Path) -> None:
    """Create the missing folders on the way to `path`, their names durable."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        try:
            make_dir(each)
        except FileExistsError:  # another worker was faster
            if not each.is_dir():
                raise
        fsync_dir(each.parent)


def unlink(path: Path) -> None:
    """Remove a file; do nothing where it is gone already."""
    path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a folder with its content as far as possible; a later sweep removes the rest."""
    shutil.rmtree(path, ignore_errors=True)
