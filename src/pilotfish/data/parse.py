"""Sources -> examples, one after the other; a bad record becomes a quarantine line and no more."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pilotfish.data.formats import Format, FormatMismatch, detect, split_record
from pilotfish.data.readers.locate import Source
from pilotfish.data.readers.raw_record import RawRecord
from pilotfish.data.readers.strict_json import parse_object
from pilotfish.data.readers.tables import json_of
from pilotfish.errors import UsageError
from pilotfish.records import Example

SAMPLE = 256  # valid records that vote on the schema


@dataclass(frozen=True, slots=True)
class BadRecord:
    """One record that is no row: a line of quarantine.jsonl."""

    source: str
    row: int
    piece: RawRecord
    reason: str
    detail: str

    def line(self) -> dict[str, Any]:
        """The quarantine contract: where it lies, how to recognise it, why, and how it looks."""
        return {
            "source": self.source,
            "row": self.row,
            "byte_offset": self.piece.offset,
            "length": self.piece.bytes_long,
            "sha256": self.piece.digest,
            "reason": self.reason,
            "detail": self.detail,
            "excerpt": self.piece.excerpt,
        }


@dataclass(frozen=True)
class Parser:
    """How to read some sources: the same every time it is walked through."""

    sources: Sequence[Source]
    mapping: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    schema: Format | None = None  # None only where no record at all can be parsed

    def walk(self) -> Iterator[Example | BadRecord]:
        """Every record as an Example (its id still "") or as Bad, in order."""
        for source, row, piece in _records(self.sources, self.limit):
            try:
                yield self._example(parse_piece(piece), source, row, piece)
            except FormatMismatch as unfit:
                yield BadRecord(source, row, piece, unfit.reason, unfit.detail)

    def _example(self, record: dict[str, Any], source: str, row: int, piece: RawRecord) -> Example:
        if self.schema is None:
            raise FormatMismatch("missing_field", "no schema was found in the first records")
        content, meta = split_record(record, self.mapping, self.schema)
        raw = piece.data.decode()
        return Example(
            id="",
            source=source,
            row=row,
            turns=content.turns,
            text=content.text,
            label=content.label,
            meta=meta,
            raw=raw if "\n" not in raw else json_of(record),  # a pretty-printed list
        )


def prepare(
    sources: Sequence[Source], mapping: Mapping[str, str] | None, limit: int | None
) -> tuple[Parser, list[dict[str, Any]]]:
    """A Scan whose schema the first valid records chose, and those records.

    Raises UsageError: a limit below 1, preference data, an unknown schema, a mapping that fits not.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}; it is the number of records to read, at least 1")
    chosen = dict(mapping or {})
    sample = list(islice(_valid(sources, limit), SAMPLE))
    schema = detect(sample, chosen) if sample else None
    return Parser(sources, chosen, limit, schema), sample


def parse_piece(piece: RawRecord) -> dict[str, Any]:
    """The record of a piece; raises Unfit with its quarantine code."""
    if piece.problem:
        raise FormatMismatch(piece.problem, piece.detail)
    try:
        return parse_object(piece.data)
    except FormatMismatch as unfit:
        if piece.tail and unfit.reason in ("invalid_json", "invalid_utf8"):
            raise FormatMismatch(
                "truncated_tail", f"the source ends here: {unfit.detail}"
            ) from unfit
        raise


def _records(sources: Sequence[Source], limit: int | None) -> Iterator[tuple[str, int, RawRecord]]:
    everything = (
        (source.name, row, piece) for source in sources for row, piece in enumerate(source.pieces())
    )
    return islice(everything, None if limit is None else min(limit, sys.maxsize))


def _valid(sources: Sequence[Source], limit: int | None) -> Iterator[dict[str, Any]]:
    for _, _, piece in _records(sources, limit):
        try:
            yield parse_piece(piece)
        except FormatMismatch:
            continue
