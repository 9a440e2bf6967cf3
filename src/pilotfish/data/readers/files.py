"""One local file: its name tells its kind, and its kind tells how it is read."""

import csv
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from pilotfish.data.readers.decompress import (
    COMPRESSIONS,
    CORRUPT,
    compression_of,
    limit_expansion,
    open_binary,
    read_whole,
)
from pilotfish.data.readers.jsonl import Buffer, find_array, read_array, read_lines
from pilotfish.data.readers.raw_record import RawRecord
from pilotfish.data.readers.tables import read_arrow, read_csv, read_parquet, read_tsv
from pilotfish.errors import DataError, UsageError
from pilotfish.store import sha256_file

# Kind (the file's ending) -> reader. A new kind of file is one line in one of these tables.
STREAMED: dict[str, Callable[[BinaryIO], Iterator[RawRecord]]] = {
    "jsonl": read_lines,
    "ndjson": read_lines,
    "csv": read_csv,
    "tsv": read_tsv,
}
COLUMNAR: dict[str, Callable[[Path], Iterator[RawRecord]]] = {
    "parquet": read_parquet,
    "arrow": read_arrow,
}


def kind_of(path: Path) -> str | None:
    """Return the kind of a file by its name (`jsonl`, `json`, `csv`, ...), None when unknown."""
    compression = compression_of(path)
    kind = path.name.lower().removesuffix(compression).rpartition(".")[2]
    if kind in STREAMED or kind == "json":
        return kind
    return kind if kind in COLUMNAR and not compression else None


def known_kinds() -> str:
    """Return the readable file endings, for error messages."""
    return ", ".join((*STREAMED, "json", f"(each also {', '.join(COMPRESSIONS)})", *COLUMNAR))


@dataclass(frozen=True)
class FileSource:
    """A file, and its path relative to DATA."""

    path: Path
    name: str

    def sha256(self) -> str:
        """Return the digest of the file on disk (compressed, where it is)."""
        with _container_errors(self.name):
            return sha256_file(self.path)

    def records(self) -> Iterator[RawRecord]:
        """Yield the file's records.

        Raises:
            DataError: The container itself is damaged (gzip, parquet, a csv header).
            UsageError: The file may not be read.
        """
        kind = kind_of(self.path) or ""
        with _container_errors(self.name):
            if kind in COLUMNAR:
                yield from limit_expansion(COLUMNAR[kind](self.path), self.path)
            elif kind == "json":
                yield from self._json_records()
            else:
                with open_binary(self.path) as handle:
                    yield from STREAMED[kind](handle)

    def _json_records(self) -> Iterator[RawRecord]:
        """Read a list of records, or a record per line: many such files are named json."""
        if self.path.stat().st_size == 0:
            return
        with open_binary(self.path) as handle:
            if compression_of(self.path):
                buffer: Buffer = read_whole(handle, self.name)
                handle.seek(0)
            else:
                buffer = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
            start = find_array(buffer)
            yield from read_lines(handle) if start is None else read_array(buffer, start)


@contextmanager
def _container_errors(name: str) -> Iterator[None]:
    """Turn what libraries raise for a damaged file into errors that name the file."""
    try:
        yield
    except CORRUPT as error:
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
        # How arrow reports that a file ends before its own promises
        raise DataError(f"{name} is damaged: {error}", hint="fetch the file again") from error
