"""Parse sources into examples. A bad record becomes one quarantine line and costs nothing else."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pilotfish.config.data import Source
from pilotfish.data.detect import detect, split_record
from pilotfish.data.formats import Format, FormatMismatch
from pilotfish.data.readers.locate import locate
from pilotfish.data.readers.raw_record import RawRecord, RecordSource
from pilotfish.data.readers.strict_json import parse_object
from pilotfish.data.readers.tables import json_of
from pilotfish.errors import UsageError
from pilotfish.records import Example

SAMPLE = 256  # valid records that vote on the format


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot become a row."""

    source: str
    row: int
    raw: RawRecord
    reason: str
    detail: str

    def line(self) -> dict[str, Any]:
        """Return its line of quarantine.jsonl: position, digest, reason and a safe excerpt."""
        return {
            "source": self.source,
            "row": self.row,
            "byte_offset": self.raw.offset,
            "length": self.raw.size,
            "sha256": self.raw.digest,
            "reason": self.reason,
            "detail": self.detail,
            "excerpt": self.raw.excerpt,
        }


@dataclass(frozen=True)
class Parser:
    """Reads some sources with one format; every pass over them gives the same examples."""

    sources: Sequence[RecordSource]  # where the records are, in reading order
    mapping: Mapping[str, str] = field(default_factory=dict)  # canonical field -> the user's column
    limit: int | None = None  # records to read at most, bad ones included
    # the format of the rows; None only where no record could be parsed at all
    format: Format | None = None
    # columns of the first valid records, which chose the format, in the order met
    columns: tuple[str, ...] = ()

    @classmethod
    def open(cls, source: Source) -> "Parser":
        """Locate DATA and detect its format.

        Raises:
            UsageError: A limit below 1, a missing path, preference data, an unknown format, or a
                mapping that does not fit.
        """
        sources = locate(source)
        if source.limit is not None and source.limit < 1:
            raise UsageError(
                f"limit is {source.limit}; it is the number of records to read, at least 1"
            )
        sample: list[dict[str, Any]] = []
        for _, _, raw in _raw_records(sources, source.limit):
            with suppress(FormatMismatch):
                sample.append(parse_record(raw))
            if len(sample) == SAMPLE:
                break
        format = detect(sample, source.mapping) if sample else None
        columns = tuple(dict.fromkeys(column for record in sample for column in record))
        return cls(sources, dict(source.mapping), source.limit, format, columns)

    @property
    def schema(self) -> str:
        """The name of the format, "" where there is none."""
        return self.format.name if self.format else ""

    def parse(self) -> Iterator[Example | BadRecord]:
        """Yield every record in order, as an Example (its id still "") or as a BadRecord."""
        for source, row, raw in _raw_records(self.sources, self.limit):
            try:
                yield self._example(source, row, raw)
            except FormatMismatch as error:
                yield BadRecord(source, row, raw, error.reason, error.detail)

    def _example(self, source: str, row: int, raw: RawRecord) -> Example:
        record = parse_record(raw)
        if self.format is None:
            raise FormatMismatch("missing_field", "no schema was found in the first records")
        content, meta = split_record(record, self.mapping, self.format)
        line = raw.data.decode()
        return Example(
            id="",
            source=source,
            row=row,
            turns=content.turns,
            text=content.text,
            label=content.label,
            meta=meta,
            raw=line if "\n" not in line else json_of(record),  # a pretty-printed list
        )


def parse_record(raw: RawRecord) -> dict[str, Any]:
    """Parse one record.

    Raises:
        FormatMismatch: With the quarantine code of what is wrong.
    """
    if raw.problem:
        raise FormatMismatch(raw.problem, raw.detail)
    try:
        return parse_object(raw.data)
    except FormatMismatch as error:
        if raw.at_end and error.reason in ("invalid_json", "invalid_utf8"):
            raise FormatMismatch(
                "truncated_tail", f"the source ends here: {error.detail}"
            ) from error
        raise


def _raw_records(
    sources: Sequence[RecordSource], limit: int | None
) -> Iterator[tuple[str, int, RawRecord]]:
    everything = (
        (source.name, row, raw) for source in sources for row, raw in enumerate(source.records())
    )
    return islice(everything, None if limit is None else min(limit, sys.maxsize))
