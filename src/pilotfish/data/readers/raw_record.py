"""One record as the bytes it has in its source, before anything is parsed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

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
