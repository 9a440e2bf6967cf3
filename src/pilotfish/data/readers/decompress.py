"""Open compressed files, and refuse files that expand more than real text does."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from pilotfish.data.readers.raw_record import RawRecord
from pilotfish.errors import DataError, UsageError

COMPRESSIONS: dict[str, Callable[[Path], io.BufferedIOBase]] = {
    ".gz": lambda path: gzip.GzipFile(path),
}
CORRUPT = (EOFError, zlib.error, gzip.BadGzipFile)  # raised for a damaged compressed file

# gzip expands 1,030 times at most; logs of one repeated line come to 100 to 200, prose to 3
FILE_RATIO = 300
# a column whose rows all share one value: a long system prompt in every row comes to a few hundred
TABLE_RATIO = 2000
FREE_BYTES = 64 * 2**20  # decompressed bytes below which no ratio is checked
MAX_IN_MEMORY = 2**28  # a compressed json array has no lines, so it is decompressed in memory


def compression_of(path: Path) -> str:
    """Return the ending that names the file's compression, or "" for an uncompressed file."""
    ending = path.suffix.lower()
    return ending if ending in COMPRESSIONS else ""


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading its decompressed bytes.

    Raises:
        DataError: While reading, when the file expands too much to be text.
    """
    if compression_of(path):
        return io.BufferedReader(_Decompressed(path), 1 << 20)
    return path.open("rb")


def read_whole(handle: BinaryIO, name: str) -> bytes:
    """Read a decompressed file into memory.

    Raises:
        UsageError: The content is larger than MAX_IN_MEMORY.
    """
    data = handle.read(MAX_IN_MEMORY + 1)
    if len(data) > MAX_IN_MEMORY:
        raise UsageError(
            f"{name} unpacks to more than {MAX_IN_MEMORY} bytes of json",
            hint="unpack it first, or save it as jsonl.gz",
        )
    return data


def limit_expansion(records: Iterator[RawRecord], path: Path) -> Iterator[RawRecord]:
    """Yield the rows of a columnar file.

    Raises:
        DataError: More than FREE_BYTES were read, and more than TABLE_RATIO times the file's size.
    """
    total, limit = 0, _byte_limit(path, TABLE_RATIO)
    for record in records:
        total += record.size
        if total > limit:
            raise _expands_too_much(path.name, TABLE_RATIO)
        yield record


class _Decompressed(io.RawIOBase):
    """The decompressed bytes of a file, with a limit on how far they may expand."""

    def __init__(self, path: Path) -> None:
        self._file = COMPRESSIONS[compression_of(path)](path)
        self._name, self._limit = path.name, _byte_limit(path, FILE_RATIO)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        if self._file.tell() > self._limit:
            raise _expands_too_much(self._name, FILE_RATIO)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _byte_limit(path: Path, ratio: int) -> int:
    return max(FREE_BYTES, ratio * path.stat().st_size)


def _expands_too_much(name: str, ratio: int) -> DataError:
    return DataError(
        f"{name} expands to more than {ratio} times its size, which text does not do",
        hint="if you trust the file, decompress it yourself and save it as jsonl",
    )
