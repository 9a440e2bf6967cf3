"""Turn the rows of csv, tsv, parquet and arrow files into JSON records."""

import base64
import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import date, time
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.data.readers.jsonl import BLANK, MAX_BYTES, RawRecord, capped_lines, too_long

BATCH_ROWS = 64  # small, because a compressed column can expand a thousandfold
BATCH_BYTES = 32 * 2**20  # of text as Python objects at a time, unless a single row has more


def read_csv(handle: BinaryIO, max_bytes: int = MAX_BYTES) -> Iterator[RawRecord]:
    """Yield the rows of a quoted, comma-separated table under its header line."""
    csv.field_size_limit(max(csv.field_size_limit(), max_bytes))
    lines = _Lines(handle, max_bytes)
    reader = csv.reader(lines, strict=True)
    return _rows(lines, lambda: next(reader))


def read_tsv(handle: BinaryIO, max_bytes: int = MAX_BYTES) -> Iterator[RawRecord]:
    """Yield the rows of a tab-separated table under its header line; quotes are plain text."""
    lines = _Lines(handle, max_bytes)
    return _rows(lines, lambda: next(lines).rstrip("\r\n").split("\t"))


class _Lines:
    """The text lines of a table, with the bytes that make up the current row."""

    def __init__(self, handle: BinaryIO, max_bytes: int) -> None:
        self._lines = capped_lines(handle, max_bytes)
        self.taken: list[RawRecord] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken.append(line)
        if line.problem:
            raise csv.Error(line.detail)
        # Bytes that are not UTF-8 are escaped, not lost, until the row is complete
        return line.raw.decode("utf-8", "surrogateescape") + ("" if line.at_end else "\n")

    def row(self) -> RawRecord:
        raw = b"\n".join(line.raw for line in self.taken)
        return RawRecord(self.taken[0].offset, raw)


def _rows(lines: _Lines, next_row: Callable[[], list[str]]) -> Iterator[RawRecord]:
    """Yield the rows below the header; `next_row` reads the cells of one row from `lines`."""
    header = _header(next_row)
    while header:
        lines.taken = []
        try:
            cells = next_row()
        except StopIteration:
            return
        except csv.Error as error:
            yield from _broken(lines.taken, str(error))
            continue
        if any(cells) or lines.row().raw.strip(BLANK):
            yield _row(lines.row(), header, cells)


def _header(next_row: Callable[[], list[str]]) -> list[str]:
    try:
        header = next_row()
    except StopIteration:
        return []
    except csv.Error as error:
        raise csv.Error(f"its header line: {error}") from error
    if any("\udc80" <= char <= "\udcff" for name in header for char in name):
        raise csv.Error("its header line is not UTF-8")
    if len(set(header)) < len(header):
        repeated = next(name for name in header if header.count(name) > 1)
        raise csv.Error(f"its header line names the column '{repeated}' twice")
    return header


def _row(row: RawRecord, header: list[str], cells: list[str]) -> RawRecord:
    problem = ""
    if len(cells) != len(header):
        problem = "missing_field" if len(cells) < len(header) else "wrong_type"
    detail = f"{len(cells)} cells under {len(header)} columns" if problem else ""
    try:
        row.raw.decode("utf-8")
    except UnicodeDecodeError as error:
        problem, detail = "invalid_utf8", f"byte {error.start} is not UTF-8"
    if problem:
        return RawRecord(row.offset, row.raw, problem=problem, detail=detail)
    record = dict(zip(header, cells, strict=True))
    return RawRecord(row.offset, row.raw, json=json_of(record).encode())


def _broken(taken: list[RawRecord], detail: str) -> Iterator[RawRecord]:
    """Yield a bad record per lost line: an open quote that swallows a thousand rows costs those."""
    for line in taken:
        if line.problem:
            yield line
        elif line.raw.strip(BLANK):
            yield RawRecord(line.offset, line.raw, problem="invalid_csv", detail=detail)


def read_parquet(path: Path) -> Iterator[RawRecord]:
    """Yield the rows of a parquet file, read batch by batch."""
    with pq.ParquetFile(path) as file:
        yield from read_batches(file.iter_batches(batch_size=BATCH_ROWS))


def read_arrow(path: Path) -> Iterator[RawRecord]:
    """Yield the rows of an arrow file, in stream or file format."""
    with pa.memory_map(str(path)) as handle:
        try:
            batches: Iterable[Any] = pa.ipc.open_stream(handle)
        except pa.ArrowInvalid:
            file = pa.ipc.open_file(handle)
            batches = (file.get_batch(i) for i in range(file.num_record_batches))
        yield from read_batches(batches)


def read_batches(batches: Iterable[Any]) -> Iterator[RawRecord]:
    """Yield one record per row of arrow batches."""
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield from _batch(batch.slice(start, BATCH_ROWS))


def _batch(batch: Any) -> Iterator[RawRecord]:
    try:
        batch.validate(full=True)  # reading through a damaged offset would end the process
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
        if batch.num_rows == 1:
            yield RawRecord(None, b"", problem="invalid_utf8", detail="a text column is not UTF-8")
            return
        for i in range(batch.num_rows):  # one at a time, to find the bad ones
            yield from _batch(batch.slice(i, 1))
        return
    if batch.num_rows > 1 and _text_bytes(batch) > BATCH_BYTES:
        half = batch.num_rows // 2
        yield from _batch(batch.slice(0, half))
        yield from _batch(batch.slice(half))
        return
    for row in batch.to_pylist():
        data = json_of(row).encode()
        if len(data) <= MAX_BYTES:
            yield RawRecord(None, data)
        else:
            yield too_long(None, data, len(data), hashlib.sha256(data).hexdigest())


def _text_bytes(batch: Any) -> int:
    """Return the most bytes a batch can have as text.

    All rows of a dictionary column may refer to one long value.
    """
    total = 0
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            total += batch.num_rows * column.dictionary.nbytes
        else:
            total += column.nbytes
    return total


def json_of(record: Any) -> str:
    """Return a record as one line of JSON. NaN is kept, and the strict parser refuses it."""
    return json.dumps(record, ensure_ascii=False, default=_as_text)


def _as_text(value: Any) -> str:
    """Return a value that JSON has no type for as text: ISO dates, bytes in base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value.isoformat() if isinstance(value, date | time) else str(value)
