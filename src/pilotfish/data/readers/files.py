"""One local file: how its name tells its kind, and how its kind is read."""

import csv
import gzip
import io
import mmap
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from pilotfish.data.readers.decompress import Decompressed, bounded
from pilotfish.data.readers.jsonl import (
    Buffer,
    array_pieces,
    array_start,
    decompressed,
    line_pieces,
)
from pilotfish.data.readers.raw_record import RawRecord
from pilotfish.data.readers.tables import arrow_pieces, csv_pieces, parquet_pieces, tsv_pieces
from pilotfish.errors import DataError, UsageError
from pilotfish.store import sha256_file

STREAMED: dict[str, Callable[[BinaryIO], Iterator[RawRecord]]] = {
    "jsonl": line_pieces,
    "ndjson": line_pieces,
    "csv": csv_pieces,
    "tsv": tsv_pieces,
}
COLUMNAR: dict[str, Callable[[Path], Iterator[RawRecord]]] = {
    "parquet": parquet_pieces,
    "arrow": arrow_pieces,
}


def kind_of(path: Path) -> str | None:
    """`jsonl`, `json`, `csv`, ... by the file's name; None when it is no kind we read."""
    name = path.name.lower()
    packed = name.endswith(".gz")
    kind = name.removesuffix(".gz").rpartition(".")[2]
    if kind in STREAMED or kind == "json":
        return kind
    return kind if kind in COLUMNAR and not packed else None


def known_kinds() -> str:
    """The endings we read, for error messages."""
    return ", ".join((*STREAMED, "json", "(each also .gz)", *COLUMNAR))


@dataclass(frozen=True)
class FileSource:
    """A file and its path relative to DATA."""

    path: Path
    name: str

    def sha256(self) -> str:
        """Digest of the file as it lies on disk (packed, where it is packed)."""
        with _readable(self.name):
            return sha256_file(self.path)

    def pieces(self) -> Iterator[RawRecord]:
        """Its records. Raises DataError where the container itself is broken."""
        with _readable(self.name):
            yield from self._pieces()

    def _pieces(self) -> Iterator[RawRecord]:
        kind = kind_of(self.path) or ""
        if kind in COLUMNAR:
            yield from bounded(COLUMNAR[kind](self.path), self.path)
        elif kind == "json":
            yield from self._json()
        else:
            with self._open() as handle:
                yield from STREAMED[kind](handle)

    @property
    def _packed(self) -> bool:
        return self.path.name.lower().endswith(".gz")

    def _open(self) -> BinaryIO:
        if self._packed:
            return io.BufferedReader(Decompressed(self.path), 1 << 20)
        return self.path.open("rb")

    def _json(self) -> Iterator[RawRecord]:
        """A list of records; or one record per line, because many such files are named json."""
        if self.path.stat().st_size == 0:
            return
        with self._open() as handle:
            if self._packed:
                buffer: Buffer = decompressed(handle, self.name)
                handle.seek(0)
            else:
                buffer = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
            start = array_start(buffer)
            yield from line_pieces(handle) if start is None else array_pieces(buffer, start)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Errors of the container, in words and with the file's name."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{name} is damaged or ends early: {error}", hint="fetch the file again"
        ) from error
    except (pa.ArrowException, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{name} cannot be read as a table: {error}") from error
    except MemoryError as error:
        raise DataError(
            f"{name} does not fit into memory: a row or a list in it is too big",
            hint="split it into smaller rows, or save a list as jsonl",
        ) from error
    except PermissionError as error:
        raise UsageError(f"no permission to read {name}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        # How arrow says that a file ends before its own promises
        raise DataError(f"{name} is damaged: {error}", hint="fetch the file again") from error
