"""Parquet files of more rows than fit in memory: write by row groups, read piece by piece."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

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
