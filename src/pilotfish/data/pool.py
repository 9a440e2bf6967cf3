"""A pool: ordered examples on disk as canonical shards, verified before they are used."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pilotfish.errors import DamagedRun
from pilotfish.records import Example, Turn
from pilotfish.store import Store

MANIFEST = "pool/manifest.json"
Item = TypeVar("Item")
_TEXT = pa.large_string()  # a shard may hold more than 2 GiB of one column
SCHEMA = pa.schema(
    [
        ("id", _TEXT),
        ("source", _TEXT),
        ("row", pa.int64()),
        ("turns", pa.list_(pa.struct([("role", pa.string()), ("content", _TEXT)]))),
        ("text", _TEXT),
        ("label", _TEXT),
        ("meta", _TEXT),
        ("raw", _TEXT),
        ("digest", pa.string()),
    ]
)


class Pool:
    """The rows of a run, in order. Positions are 0-based over all shards.

    A shard's digest is checked when it is first touched, so a worker reads only what it needs.
    """

    def __init__(self, store: Store, manifest: dict[str, Any]) -> None:
        self.store = store
        self.manifest = manifest
        self._starts = np.cumsum([0, *(shard["rows"] for shard in manifest["shards"])])
        self._verified: set[int] = set()

    @classmethod
    def open(cls, store: Store) -> "Pool":
        """Open the pool of a run.

        Raises:
            DamagedRun: There is none, or its manifest is not intact.
        """
        return cls(store, store.require(MANIFEST))

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    @property
    def fingerprint(self) -> str:
        """sha256 over ordered ids and content digests."""
        return str(self.manifest["fingerprint"])

    @property
    def schema(self) -> str:
        """Name of the format the rows came in."""
        return str(self.manifest["schema"])

    @property
    def warnings(self) -> list[str]:
        """Sentences about how the data was read."""
        return list(self.manifest["warnings"])

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.manifest["shards"])

    @property
    def sizes(self) -> list[int]:
        """Rows of every shard."""
        return [int(shard["rows"]) for shard in self.manifest["shards"]]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Positions [start, stop) of every shard."""
        return [self.bounds(i) for i in range(self.shards)]

    def bounds(self, i: int) -> tuple[int, int]:
        """Return the positions [start, stop) of shard i in the pool."""
        return int(self._starts[i]), int(self._starts[i + 1])

    def shard(self, i: int) -> list[Example]:
        """Return the examples of one shard, in order."""
        return _read_examples(self._path(i))

    def examples(self) -> Iterator[Example]:
        """Yield every example in order, with one shard in memory at a time."""
        for i in range(self.shards):
            yield from self.shard(i)

    def table(self, i: int, *names: str) -> pa.Table:
        """Return columns of shard i as they are on disk, without reading the others.

        Args:
            i: The shard.
            *names: Any column but `turns`.
        """
        for name in names:
            if name not in SCHEMA.names or name == "turns":
                raise KeyError(f"'{name}' is no plain column of a shard: {SCHEMA.names}")
        return _read_table(self._path(i), names)

    def columns(self, *names: str) -> dict[str, NDArray[Any]]:
        """Return whole columns without reading the others.

        Args:
            *names: Any column but `turns`.

        Returns:
            Name -> [n]: int64 for `row`, else text objects.
        """
        shards = range(self.shards)
        return {n: np.concatenate([_array(self.table(i, n), n) for i in shards]) for n in names}

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> list[Example]:
        """Return the examples at some positions, in the order given."""
        return self._gather(indices, _read_examples)

    def raw(self, indices: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """Return the records at some positions as they came, one line each, in the order given."""

        def lines(path: Path, rows: Sequence[int]) -> list[str]:
            column = _read_table(path, ["raw"])["raw"].to_pylist()
            return [str(column[row]) for row in rows]

        return self._gather(indices, lines)

    def _gather(
        self,
        indices: Sequence[int] | NDArray[np.int64],
        read: Callable[[Path, Sequence[int]], list[Item]],
    ) -> list[Item]:
        """Read each shard at most once, then restore the order of `indices`."""
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"positions must lie in [0, {len(self)})")
        shard_of = np.searchsorted(self._starts, wanted, side="right") - 1
        found: dict[int, Item] = {}
        for i in np.unique(shard_of):
            places = np.flatnonzero(shard_of == i)
            rows = (wanted[places] - self._starts[i]).tolist()
            found.update(zip(places.tolist(), read(self._path(int(i)), rows), strict=True))
        return [found[place] for place in range(wanted.size)]

    def _path(self, i: int) -> Path:
        """Return the parquet file of shard i, its digest checked once."""
        shard = self.manifest["shards"][i]
        if i not in self._verified:
            found = self.store.require(shard["manifest"])
            if found["files"].get(shard["file"], {}).get("sha256") != shard["sha256"]:
                raise DamagedRun(
                    f"{shard['file']} is not the shard that {MANIFEST} lists",
                    hint="read the data again",
                )
            self._verified.add(i)
        return self.store.path(shard["file"])


def write_shard(path: Path, examples: Sequence[Example]) -> None:
    """Write one shard: the same bytes for the same rows, with no time, host or library in it."""
    rows = [
        {
            "id": example.id,
            "source": example.source,
            "row": example.row,
            "turns": [{"role": turn.role, "content": turn.content} for turn in example.turns],
            "text": example.text,
            "label": example.label,
            "meta": json.dumps(example.meta, ensure_ascii=False, separators=(",", ":")),
            "raw": example.raw,
            "digest": example.digest,
        }
        for example in examples
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, path, compression="zstd", write_statistics=False)


def _read_examples(path: Path, rows: Sequence[int] | None = None) -> list[Example]:
    """Return the examples of a shard, all or those at some positions, in the order given."""
    table = pq.read_table(path, partitioning=None)
    if rows is not None:
        table = table.take(pa.array(rows, pa.int64()))
    return [
        Example(
            id=row["id"],
            source=row["source"],
            row=row["row"],
            turns=tuple(Turn(turn["role"], turn["content"]) for turn in row["turns"]),
            text=row["text"],
            label=row["label"],
            meta=json.loads(row["meta"]),
            raw=row["raw"],
        )
        for row in table.to_pylist()
    ]


def _read_table(path: Path, names: Sequence[str]) -> pa.Table:
    """Return some columns of a shard; no threads, because the read takes a millisecond."""
    with pq.ParquetFile(path) as file:
        return file.read(columns=list(names), use_threads=False)


def _array(table: pa.Table, name: str) -> NDArray[Any]:
    column = table.column(name)
    if name == "row":
        return np.asarray(column.to_numpy(), dtype=np.int64)
    array = np.empty(len(column), dtype=object)
    array[:] = column.to_pylist()
    return array


GROUP_ROWS = 1 << 14  # many small groups would make a footer that takes memory of its own


class GroupedWriter:
    """Takes tables of any size and writes row groups of GROUP_ROWS: equal rows, equal bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> "GroupedWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._rows:
            self._flush(self._rows)
        if self._file is not None:
            self._file.close()

    def write(self, table: pa.Table) -> None:
        """Append rows; every table has the columns of the first one."""
        self._waiting.append(table)
        self._rows += len(table)
        while self._rows >= GROUP_ROWS:
            self._flush(GROUP_ROWS)

    def _flush(self, rows: int) -> None:
        table = pa.concat_tables(self._waiting)
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._file.write_table(table.slice(0, rows).combine_chunks(), row_group_size=rows)
        self._waiting, self._rows = [table.slice(rows)], self._rows - rows


def groups(path: Path, names: Sequence[str]) -> Iterator[pa.Table]:
    """Yield columns of a file, row group by row group.

    Not `iter_batches`: its memory grows with the row groups of the whole file (pyarrow 26).
    """
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=list(names), use_threads=False).select(names)


def pieces(path: Path, names: Sequence[str], sizes: Iterable[int]) -> Iterator[pa.Table]:
    """Yield columns of a file in consecutive tables of these sizes; the file may hold more rows."""
    tables, waiting = groups(path, names), pq.read_schema(path).empty_table().select(names)
    for size in sizes:
        parts = [waiting]
        while sum(map(len, parts)) < size:
            parts.append(next(tables))
        table = pa.concat_tables(parts)
        yield table.slice(0, size)
        waiting = table.slice(size)


def rows_in(path: Path) -> int:
    """Return the number of rows in a file."""
    return int(pq.read_metadata(path).num_rows)
