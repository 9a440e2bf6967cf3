"""csv, tsv, parquet and arrow: rows of a table become JSON records, then parse like any other."""

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

from pilotfish.data.readers.jsonl import BLANK, capped_lines
from pilotfish.data.readers.raw_record import EXCERPT, MAX_BYTES, RawRecord

BATCH_ROWS = 64  # small, because a packed column can unfold a thousandfold
BATCH_BYTES = 32 * 2**20  # of text in Python's hands at a time, unless a single row has more


def csv_pieces(handle: BinaryIO, max_bytes: int = MAX_BYTES) -> Iterator[RawRecord]:
    """Rows of a quoted, comma-separated table under its header line."""
    csv.field_size_limit(max(csv.field_size_limit(), max_bytes))
    lines = _Lines(handle, max_bytes)
    reader = csv.reader(lines, strict=True)
    return _rows(lines, lambda: next(reader))


def tsv_pieces(handle: BinaryIO, max_bytes: int = MAX_BYTES) -> Iterator[RawRecord]:
    """Rows of a tab-separated table under its header line; quotes are ordinary text here."""
    lines = _Lines(handle, max_bytes)
    return _rows(lines, lambda: next(lines).rstrip("\r\n").split("\t"))


class _TooLong(csv.Error):
    pass


class _Lines:
    """The text lines of a table, remembering which bytes made up the current row."""

    def __init__(self, handle: BinaryIO, max_bytes: int) -> None:
        self._pieces = capped_lines(handle, max_bytes)
        self.taken: list[RawRecord] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        piece = next(self._pieces)
        self.taken.append(piece)
        if piece.problem:
            raise _TooLong(piece.detail)
        # Bytes that are no UTF-8 are marked, not lost, until the row is complete
        return piece.found.decode("utf-8", "surrogateescape") + ("" if piece.tail else "\n")

    def row(self) -> RawRecord:
        found = b"\n".join(piece.found for piece in self.taken)
        return RawRecord(self.taken[0].offset, found)


def _rows(lines: _Lines, next_row: Callable[[], list[str]]) -> Iterator[RawRecord]:
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
        if any(cells) or lines.row().found.strip(BLANK):
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
        twice = next(name for name in header if header.count(name) > 1)
        raise csv.Error(f"its header line names the column '{twice}' twice")
    return header


def _row(row: RawRecord, header: list[str], cells: list[str]) -> RawRecord:
    problem = ""
    if len(cells) != len(header):
        problem = "missing_field" if len(cells) < len(header) else "wrong_type"
    detail = f"{len(cells)} cells under {len(header)} columns" if problem else ""
    try:
        row.found.decode("utf-8")
    except UnicodeDecodeError as error:
        problem, detail = "invalid_utf8", f"byte {error.start} is not UTF-8"
    if problem:
        return RawRecord(row.offset, row.found, problem=problem, detail=detail)
    record = dict(zip(header, cells, strict=True))
    return RawRecord(row.offset, row.found, json=json_of(record).encode())


def _broken(taken: list[RawRecord], detail: str) -> Iterator[RawRecord]:
    """One bad record per line lost: an open quote that swallows a thousand rows counts as those."""
    for piece in taken:
        if piece.problem:
            yield piece
        elif piece.found.strip(BLANK):
            yield RawRecord(piece.offset, piece.found, problem="invalid_csv", detail=detail)


def parquet_pieces(path: Path) -> Iterator[RawRecord]:
    """Rows of a parquet file, read batch by batch."""
    with pq.ParquetFile(path) as file:
        yield from batch_pieces(file.iter_batches(batch_size=BATCH_ROWS))


def arrow_pieces(path: Path) -> Iterator[RawRecord]:
    """Rows of an arrow file, stream or file format."""
    with pa.memory_map(str(path)) as handle:
        try:
            batches: Iterable[Any] = pa.ipc.open_stream(handle)
        except pa.ArrowInvalid:
            file = pa.ipc.open_file(handle)
            batches = (file.get_batch(i) for i in range(file.num_record_batches))
        yield from batch_pieces(batches)


def batch_pieces(batches: Iterable[Any]) -> Iterator[RawRecord]:
    """One piece per row of some arrow batches."""
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield from _batch(batch.slice(start, BATCH_ROWS))


def _batch(batch: Any) -> Iterator[RawRecord]:
    try:
        batch.validate(full=True)  # reading through a damaged offset would end the process
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
        yield from _not_utf8(batch)
        return
    if batch.num_rows > 1 and _unfolded(batch) > BATCH_BYTES:
        half = batch.num_rows // 2
        yield from _batch(batch.slice(0, half))
        yield from _batch(batch.slice(half))
        return
    for record in batch.to_pylist():
        yield _capped(json_of(record).encode())


def _unfolded(batch: Any) -> int:
    """At most so many bytes as text: all rows of a dictionary may name one long value."""
    total = 0
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            total += batch.num_rows * column.dictionary.nbytes
        else:
            total += column.nbytes
    return total


def _capped(data: bytes) -> RawRecord:
    """A record, or only its beginning where it is longer than any row may be."""
    if len(data) <= MAX_BYTES:
        return RawRecord(None, data)
    return RawRecord(
        None, data[:EXCERPT], problem="too_long", detail=f"{len(data)} bytes",
        length=len(data), sha256=hashlib.sha256(data).hexdigest(),
    )  # fmt: skip


def _not_utf8(batch: Any) -> Iterator[RawRecord]:
    """Find the rows that are to blame, one at a time."""
    if batch.num_rows == 1:
        yield RawRecord(None, b"", problem="invalid_utf8", detail="a text column is not UTF-8")
        return
    for i in range(batch.num_rows):
        yield from _batch(batch.slice(i, 1))


def json_of(record: Any) -> str:
    """A record as one line of JSON. NaN stays NaN here, and the strict parser refuses it."""
    return json.dumps(record, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> str:
    """What JSON has no word for travels as text: dates in ISO form, bytes in base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value.isoformat() if isinstance(value, date | time) else str(value)
