"""Cut jsonl and json bytes into records without parsing them."""

import hashlib
import mmap
import re
from collections.abc import Iterator
from typing import BinaryIO

from pilotfish.data.formats import FormatMismatch
from pilotfish.data.readers.raw_record import MAX_BYTES, RawRecord, too_long
from pilotfish.data.readers.strict_json import parse_object

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"
LISTS = (b'"data"', b'"rows"', b'"examples"')  # keys under which a json object may hold its records

Buffer = bytes | mmap.mmap


def read_lines(handle: BinaryIO, max_bytes: int = MAX_BYTES) -> Iterator[RawRecord]:
    r"""Yield one record per line that is not blank. Only \n ends a line (U+2028 is text)."""
    for record in capped_lines(handle, max_bytes):
        if record.problem or record.raw.strip(BLANK):
            yield record


def capped_lines(handle: BinaryIO, max_bytes: int) -> Iterator[RawRecord]:
    """Yield every line without its newline, blank lines too.

    A line longer than `max_bytes` is reported as too_long and not kept in memory.
    """
    offset = 0
    while line := handle.readline(max_bytes + 1):
        start, end = offset, offset + len(line)
        if start == 0 and line.startswith(BOM):
            line, start = line.removeprefix(BOM), len(BOM)
        if line.endswith(b"\n"):
            yield RawRecord(start, line[:-1])
        elif len(line) > max_bytes:
            record = _skip_line(handle, line, start)
            end = start + record.size + (not record.at_end)
            yield record
        elif line:
            yield RawRecord(start, line, at_end=True)
        offset = end


def _skip_line(handle: BinaryIO, line: bytes, start: int) -> RawRecord:
    """Read to the end of a long line, keeping only its length and hash."""
    sha, length, chunk = hashlib.sha256(line), len(line), line
    while chunk := handle.readline(2**20):
        body = chunk.removesuffix(b"\n")
        sha.update(body)
        length += len(body)
        if chunk.endswith(b"\n"):
            return too_long(start, line, length, sha.hexdigest())
    return too_long(start, line, length, sha.hexdigest(), at_end=True)


_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},]', re.DOTALL)


def read_array(buffer: Buffer, start: int, max_bytes: int = MAX_BYTES) -> Iterator[RawRecord]:
    """Yield one record per element of the JSON array whose `[` ends at `start`.

    Only brackets and strings are examined, so a broken element costs only itself.
    """
    depth, begin = 0, start
    for token in _TOKEN.finditer(buffer, start):
        char = buffer[token.start()]
        if char in b"[{":
            depth += 1
        elif depth and char in b"]}":
            depth -= 1
        elif not depth and char in b",]":
            element = _element(buffer, begin, token.start(), max_bytes)
            if char == ord(",") or element.raw:
                yield element
            begin = token.end()
            if char == ord("]"):
                return
    rest = _element(buffer, begin, len(buffer), max_bytes)
    yield RawRecord(
        rest.offset, rest.raw[:max_bytes], problem="truncated_tail", detail="the list never ends"
    )


def _element(buffer: Buffer, begin: int, end: int, max_bytes: int) -> RawRecord:
    padded = buffer[begin:end]
    raw = padded.strip(BLANK)
    begin += len(padded) - len(padded.lstrip(BLANK))
    if len(raw) > max_bytes:
        return too_long(begin, raw, len(raw), hashlib.sha256(raw).hexdigest())
    return RawRecord(begin, raw)


def find_array(buffer: Buffer) -> int | None:
    """Find the list of records in a json file.

    Returns:
        The position just after the `[` of `[ ...` or `{"data": [ ...`; None where the file has a
        record per line.
    """
    head = 3 if buffer[:3] == BOM else 0
    first = re.compile(rb"\S").search(buffer, head)
    if first is None or first[0] == b"[":
        return first and first.end()
    newline = buffer.find(b"\n", first.start())
    end = len(buffer) if newline < 0 else newline
    more_lines = re.compile(rb"\S").search(buffer, end)
    if more_lines and end - first.start() <= MAX_BYTES:
        try:
            parse_object(buffer[first.start() : end])
        except FormatMismatch:
            pass
        else:
            return None
    return _list_inside(buffer, first.start())


def _list_inside(buffer: Buffer, start: int) -> int | None:
    """Find a list of records one level inside the object that begins at `start`."""
    depth, key = 0, b""
    for token in _TOKEN.finditer(buffer, start):
        char = buffer[token.start()]
        if char == ord('"') and depth == 1:
            key = token[0]
        elif char in b"[{":
            depth += 1
            if depth == 2 and char == ord("[") and key in LISTS:
                return token.end()
        elif char in b"]}":
            depth -= 1
            if depth == 0:
                return None
    return None
