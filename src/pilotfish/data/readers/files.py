"""Find the files of DATA, decompress them, and read each by its kind."""

import csv
import difflib
import glob
import gzip
import io
import json
import mmap
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from pilotfish.config.data import Source
from pilotfish.data.readers.hub import choose_split, hub_source
from pilotfish.data.readers.jsonl import (
    Buffer,
    RawRecord,
    RecordSource,
    find_array,
    read_array,
    read_lines,
)
from pilotfish.data.readers.tables import read_arrow, read_csv, read_parquet, read_tsv
from pilotfish.errors import DataError, UsageError
from pilotfish.store import sha256_file

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


# Files that libraries write next to the data, with endings like data
NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
# Endings of files that we do not read; no hub id has them
FILE_LIKE = {".txt", ".gz", ".zip", ".tar", ".zst", ".xz", ".bz2", ".xlsx", ".yaml", ".yml", ".md"}
_HUB_ID = re.compile(r"[\w][\w.\-]*(/[\w][\w.\-]*)?")


def locate(source: Source) -> list[RecordSource]:
    """Find the record sources of DATA, ordered by name.

    Data that exists locally never touches the network.

    Raises:
        UsageError: The path does not exist or holds nothing readable, or options about hub
            datasets were given for local data.
        DataError: A saved dataset lacks a file.
    """
    path = Path(source.data).expanduser()
    if path.is_dir() and any((path / n).is_file() for n in ("state.json", "dataset_dict.json")):
        return [*_saved_dataset(path, source.split)]
    files = _local_files(path, source.data)
    if files is None:
        return [hub_source(source)]
    if any((source.dataset_config, source.split, source.revision)):
        raise UsageError(
            f"'{source.data}' is local: dataset_config, split and revision are for hub data"
        )
    return [*files]


def _local_files(path: Path, typed: str) -> list[FileSource] | None:
    """Return the files of a local DATA, None where the text can only be a hub id."""
    if path.is_file():
        if kind_of(path) is None:
            raise UsageError(f"cannot read '{typed}'", hint=f"known files: {known_kinds()}")
        return [FileSource(path, path.name)]
    if path.is_dir():
        return _data_files(path, path.rglob("*"), typed)
    if glob.has_magic(typed):
        fixed = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
        hits = glob.glob(str(path), recursive=True)
        return _data_files(Path(*path.parts[:fixed]), map(Path, hits), typed)
    if _is_path(path, typed):
        raise _missing(path, typed)
    return None


def _data_files(root: Path, paths: Iterable[Path], typed: str) -> list[FileSource]:
    named: list[tuple[str, Path]] = []
    for path in paths:
        below = path.relative_to(root)
        hidden = any(part.startswith(".") for part in below.parts)
        if not hidden and path.name not in NOT_DATA and path.is_file() and kind_of(path):
            named.append((below.as_posix(), path))
    if not named:
        raise UsageError(f"'{typed}' holds no data", hint=f"known files: {known_kinds()}")
    return [FileSource(path, name) for name, path in sorted(named)]


def _is_path(path: Path, typed: str) -> bool:
    """Return whether a DATA that does not exist reads as a path and not as a hub id."""
    return (
        not _HUB_ID.fullmatch(typed)
        or kind_of(path) is not None
        or path.suffix.lower() in FILE_LIKE
        or (len(path.parts) > 1 and Path(path.parts[0]).is_dir())
    )


def _missing(path: Path, typed: str) -> UsageError:
    if path.exists():
        return UsageError(
            f"'{typed}' is neither a file nor a folder",
            hint="rows are read twice: write what comes through a pipe to a file first",
        )
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f"did you mean '{path.with_name(near[0])}'?" if near else "check the path"
    return UsageError(f"there is no file or folder '{typed}'", hint=hint)


def _saved_dataset(root: Path, split: str | None) -> list[FileSource]:
    """Return the files of a folder written by `save_to_disk` of the datasets library."""
    folder = root
    if (root / "dataset_dict.json").is_file():
        splits = _read_json(root / "dataset_dict.json").get("splits", [])
        folder = root / choose_split(str(root), splits, split)
    elif split is not None:
        raise UsageError(f"'{root}' is one split, there is no '{split}' to choose")
    # In the order the dataset has them, which is not always that of their names
    listed = _read_json(folder / "state.json").get("_data_files", [])
    paths = [folder / Path(entry["filename"]).name for entry in listed]
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise DataError(f"the saved dataset {folder} lacks {', '.join(missing) or 'any data'}")
    return [FileSource(path, path.relative_to(root).as_posix()) for path in paths]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return value if isinstance(value, dict) else {}
