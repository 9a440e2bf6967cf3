"""jsonl and json: cut a stream of bytes into records without parsing it."""

import hashlib
import mmap
import re
from collections.abc import Iterator
from typing import BinaryIO

from pilotfish.data.formats import FormatMismatch
from pilotfish.data.readers.raw_record import EXCERPT, MAX_BYTES, RawRecord
from pilotfish.data.readers.strict_json import parse_object
from pilotfish.errors import UsageError

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"
LISTS = (b'"data"', b'"rows"', b'"examples"')  # keys under which a json object may hold its records
MAX_PACKED_JSON = 2**28  # a gzipped json array has no lines, so it is unpacked in memory

Buffer = bytes | mmap.mmap


def line_pieces(handle: BinaryIO, max_bytes: int = MAX_BYTES) -> Iterator[RawRecord]:
    r"""One piece per line that is not blank; split on \n alone (U+2028 is text)."""
    for piece in capped_lines(handle, max_bytes):
        if piece.problem or piece.found.strip(BLANK):
            yield piece


def capped_lines(handle: BinaryIO, max_bytes: int) -> Iterator[RawRecord]:
    """Every line without its newline, blank ones too; a longer one is too_long and not kept."""
    offset = 0
    while line := handle.readline(max_bytes + 1):
        start, end = offset, offset + len(line)
        if start == 0 and line.startswith(BOM):
            line, start = line.removeprefix(BOM), len(BOM)
        if line.endswith(b"\n"):
            yield RawRecord(start, line[:-1])
        elif len(line) > max_bytes:
            piece = _too_long(handle, line, start)
            end = start + piece.bytes_long + (not piece.tail)
            yield piece
        elif line:
            yield RawRecord(start, line, tail=True)
        offset = end


def _too_long(handle: BinaryIO, line: bytes, start: int) -> RawRecord:
    """Read on to the end of the line, keeping nothing but its length and hash."""
    sha, length, chunk, tail = hashlib.sha256(line), len(line), line, True
    while chunk := handle.readline(2**20):
        body = chunk.removesuffix(b"\n")
        sha.update(body)
        length += len(body)
        if chunk.endswith(b"\n"):
            tail = False
            break
    return _cut(start, line, length, sha.hexdigest(), tail=tail)


def _cut(offset: int, found: bytes, length: int, sha256: str, *, tail: bool = False) -> RawRecord:
    detail = f"{length} bytes"
    return RawRecord(
        offset, found[:EXCERPT], None, "too_long", detail, tail, length=length, sha256=sha256
    )


_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},]', re.DOTALL)


def array_pieces(buffer: Buffer, start: int, max_bytes: int = MAX_BYTES) -> Iterator[RawRecord]:
    """One piece per element of the JSON array whose `[` ends at `start`.

    Only brackets and strings are looked at, so that a broken element costs itself alone.
    """
    depth, begin = 0, start
    for token in _TOKEN.finditer(buffer, start):
        char = buffer[token.start()]
        if char in b"[{":
            depth += 1
        elif depth and char in b"]}":
            depth -= 1
        elif not depth and char in b",]":
            piece = _element(buffer, begin, token.start(), max_bytes)
            if char == ord(",") or piece.found:
                yield piece
            begin = token.end()
            if char == ord("]"):
                return
    rest = _element(buffer, begin, len(buffer), max_bytes)
    yield RawRecord(
        rest.offset, rest.found[:max_bytes], None, "truncated_tail", "the list never ends"
    )


def _element(buffer: Buffer, begin: int, end: int, max_bytes: int) -> RawRecord:
    raw = buffer[begin:end]
    found = raw.strip(BLANK)
    begin += len(raw) - len(raw.lstrip(BLANK))
    if len(found) > max_bytes:
        return _cut(begin, found, len(found), hashlib.sha256(found).hexdigest())
    return RawRecord(begin, found)


def array_start(buffer: Buffer) -> int | None:
    """Where the list of records starts: `[ ...` or `{"data": [ ...`; None: a record per line."""
    head = 3 if buffer[:3] == BOM else 0
    first = re.compile(rb"\S").search(buffer, head)
    if first is None or first[0] == b"[":
        return first and first.end()
    newline = buffer.find(b"\n", first.start())
    end = len(buffer) if newline < 0 else newline
    more = re.compile(rb"\S").search(buffer, end)
    if more and end - first.start() <= MAX_BYTES and _parses(buffer[first.start() : end]):
        return None
    return _list_inside(buffer, first.start())


def _parses(line: bytes) -> bool:
    try:
        parse_object(line)
    except FormatMismatch:
        return False
    return True


def _list_inside(buffer: Buffer, start: int) -> int | None:
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


def decompressed(handle: BinaryIO, name: str) -> bytes:
    """All bytes of a gzipped json file, refused where they would fill the memory."""
    data = handle.read(MAX_PACKED_JSON + 1)
    if len(data) > MAX_PACKED_JSON:
        raise UsageError(
            f"{name} unpacks to more than {MAX_PACKED_JSON} bytes of json",
            hint="unpack it first, or save it as jsonl.gz",
        )
    return data
