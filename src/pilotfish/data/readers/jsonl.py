"""Cut jsonl and json bytes into records, and parse one record strictly."""

import hashlib
import json
import math
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from pilotfish.data.formats import FormatMismatch

MAX_BYTES = 16 * 2**20  # a longer record is quarantined as too_long
EXCERPT = 200  # bytes of a bad record shown in its quarantine line


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record's bytes and their position."""

    offset: int | None  # bytes into the (decompressed) source; None for columnar sources
    raw: bytes  # the bytes in the source; only the first of them where `length` is given
    # the record as JSON where the source is not JSON (csv); None where `raw` is JSON
    json: bytes | None = None
    problem: str = ""  # quarantine code where the reader already knows that the record is bad
    detail: str = ""  # the problem in words
    # nothing follows, not even a newline, so a parse error means a truncated source
    at_end: bool = False
    length: int | None = None  # bytes of the whole record where `raw` holds only its start
    sha256: str | None = None  # digest of the whole record where `raw` holds only its start

    @property
    def data(self) -> bytes:
        """The record as JSON."""
        return self.raw if self.json is None else self.json

    @property
    def size(self) -> int:
        """Bytes of the whole record in the source."""
        return len(self.raw) if self.length is None else self.length

    @property
    def digest(self) -> str:
        """sha256 of the whole record in the source."""
        return self.sha256 or hashlib.sha256(self.raw).hexdigest()

    @property
    def excerpt(self) -> str:
        """The first bytes as printable ASCII, so that no terminal obeys an escape sequence."""
        start = self.raw[:EXCERPT].decode("utf-8", "backslashreplace")
        return start.encode("unicode_escape").decode("ascii")[:EXCERPT]


def too_long(
    offset: int | None, start: bytes, length: int, sha256: str, *, at_end: bool = False
) -> RawRecord:
    """Return a record above the size limit, which keeps an excerpt, `length` and digest.

    Args:
        offset: Where the record starts in its source, in bytes.
        start: Its first bytes.
        length: Bytes of the whole record.
        sha256: Digest of the whole record.
        at_end: The source ends with this record.
    """
    return RawRecord(
        offset,
        start[:EXCERPT],
        problem="too_long",
        detail=f"{length} bytes",
        at_end=at_end,
        length=length,
        sha256=sha256,
    )


class RecordSource(Protocol):
    """One stream of records: a file, or a split of a hub dataset."""

    @property
    def name(self) -> str:
        """Path relative to DATA; for a hub dataset the name of the split."""

    def sha256(self) -> str:
        """Return the digest of the source's content."""

    def records(self) -> Iterator[RawRecord]:
        """Yield the records in order, from the start on every call."""


MAX_DEPTH = 100
_SURROGATE = re.compile("[\ud800-\udfff]")
_INT_DIGITS = 20  # of 2**64 - 1


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse one JSON object from its UTF-8 bytes.

    Raises:
        FormatMismatch: With the quarantine code of what is wrong.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatMismatch("invalid_utf8", f"byte {error.start} is not UTF-8") from error
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        if "\0" in text:
            raise FormatMismatch("nul_char", "a NUL byte") from error
        raise FormatMismatch("invalid_json", str(error)) from error
    if not isinstance(value, dict):
        raise FormatMismatch("not_object", "the record is not a JSON object")
    _check_depth(data, value)
    if b"\\u" in data:  # raw NUL and raw surrogates cannot have come this far
        _check_text(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise FormatMismatch("duplicate_key", f"the key '{repeated[:40]}' appears twice")
    return found


def _int(digits: str) -> int:
    if len(digits) > _INT_DIGITS + 1 or not -(2**63) <= int(digits) < 2**64:
        raise FormatMismatch("int_too_big", f"{digits[:24]} does not fit 64 bits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise FormatMismatch("nonfinite_number", f"{digits[:24]} is beyond a float")
    return value


def _constant(word: str) -> Any:
    raise FormatMismatch("nonfinite_number", f"{word} is no JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_int, parse_float=_float, parse_constant=_constant
)


def _too_deep() -> FormatMismatch:
    return FormatMismatch("too_deep", f"nested deeper than {MAX_DEPTH}")


def _check_depth(data: bytes, value: dict[str, Any]) -> None:
    """Refuse deeper nesting than MAX_DEPTH; counts levels only where there are enough brackets."""
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    if any(isinstance(inner, dict | list) for inner in level):
        raise _too_deep()


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _check_text(value: dict[str, Any]) -> None:
    """Refuse NUL and half surrogate pairs in every string, keys included."""
    waiting: list[Any] = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, str):
            if "\0" in current:
                raise FormatMismatch("nul_char", "a text holds NUL")
            if _SURROGATE.search(current):
                raise FormatMismatch("lone_surrogate", "a text holds half of a surrogate pair")
        elif isinstance(current, dict):
            waiting.extend(current)
        waiting.extend(_inside(current))


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
