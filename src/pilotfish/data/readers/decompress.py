"""Files that unfold as no text of people does are refused: gzip, and columns of one value."""

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

from pilotfish.data.readers.raw_record import RawRecord
from pilotfish.errors import DataError

# gzip unfolds 1,030 times at most; logs of one repeated line come to 100 to 200, prose to 3
GZIP_RATIO = 300
# a column whose rows all name one value: a long system prompt in every row comes to a few hundred
TABLE_RATIO = 2000
FREE = 64 * 2**20  # bytes unpacked before anybody counts


class Decompressed(io.RawIOBase):
    """The unpacked bytes of a gzip. Raises DataError beyond FREE bytes at more than GZIP_RATIO."""

    def __init__(self, path: Path) -> None:
        self._file = gzip.GzipFile(path, "rb")
        self._name, self._most = path.name, _most(path, GZIP_RATIO)

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes, by unpacking from the beginning again."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        return self._file.seek(offset, whence)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Unpack into a buffer."""
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        if self._file.tell() > self._most:
            raise _unfolds(self._name, GZIP_RATIO)
        return len(data)

    def close(self) -> None:
        """Close the file under it too."""
        self._file.close()
        super().close()


def bounded(pieces: Iterator[RawRecord], path: Path) -> Iterator[RawRecord]:
    """Rows of a columnar file. Raises DataError beyond FREE bytes at more than TABLE_RATIO."""
    total, most = 0, _most(path, TABLE_RATIO)
    for piece in pieces:
        total += piece.bytes_long
        if total > most:
            raise _unfolds(path.name, TABLE_RATIO)
        yield piece


def _most(path: Path, ratio: int) -> int:
    return max(FREE, ratio * path.stat().st_size)


def _unfolds(name: str, ratio: int) -> DataError:
    return DataError(
        f"{name} unfolds more than {ratio} times: this is no packed text",
        hint="unpack it yourself, as jsonl, if you trust it",
    )
