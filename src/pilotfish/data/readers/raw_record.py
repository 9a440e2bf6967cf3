"""One record as its bytes lie in the source, before anybody trusts them."""

import hashlib
from dataclasses import dataclass

MAX_BYTES = 16 * 2**20  # a longer record is quarantined as too_long
EXCERPT = 200  # bytes of a bad record shown in its quarantine line


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record's bytes and where they start.

    found: the bytes in the source (only the first ones where `length` is given).
    json: the record as JSON where the source is no JSON (csv, parquet), else None: `found` is it.
    problem: a quarantine code where the reader already knows that this is no record.
    tail: nothing followed, not even a newline: a parse error means that the source was cut.
    """

    offset: int | None  # bytes into the (unpacked) source; None for columnar sources
    found: bytes
    json: bytes | None = None
    problem: str = ""
    detail: str = ""
    tail: bool = False
    length: int | None = None
    sha256: str | None = None

    @property
    def data(self) -> bytes:
        """The record as JSON."""
        return self.found if self.json is None else self.json

    @property
    def bytes_long(self) -> int:
        """Length of the whole record in the source."""
        return len(self.found) if self.length is None else self.length

    @property
    def digest(self) -> str:
        """sha256 of the whole record in the source."""
        return self.sha256 or hashlib.sha256(self.found).hexdigest()

    @property
    def excerpt(self) -> str:
        """The first bytes, everything but plain ASCII escaped, so that no terminal obeys it."""
        start = self.found[:EXCERPT].decode("utf-8", "backslashreplace")
        return start.encode("unicode_escape").decode("ascii")[:EXCERPT]
