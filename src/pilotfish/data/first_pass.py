"""The first pass over DATA: parse, count and quarantine records, decide the ids.

Ids are compared by digests of 16 bytes a row; sets of strings would take ten times the memory.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.config.data import Source
from pilotfish.data.decontaminate import overlap_key
from pilotfish.data.detect import detect, split_record
from pilotfish.data.formats import Format, FormatMismatch
from pilotfish.data.readers.files import locate
from pilotfish.data.readers.jsonl import RawRecord, RecordSource, parse_object
from pilotfish.data.readers.tables import json_of
from pilotfish.errors import DataError, UsageError
from pilotfish.records import Example, Ints

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


DIGEST = np.dtype("S16")  # all 16 bytes count, trailing zeros too: every digest has this length
RECENT = 1 << 16  # ids kept as text, so that a repeated one can be named
Digests = NDArray[np.bytes_]


class ChangedData(Exception):
    """A row differs from the one that the first pass counted; the text is its source."""


class UserIds:
    """The values of the id column, in reading order: usable until one is missing or repeated."""

    def __init__(self) -> None:
        self.usable = True
        self.present = 0  # rows that have an id
        self.repeated: str | None = None  # the first repeated id, where one made them unusable
        self._recent: list[str] = []
        self._older: Digests = np.empty(0, dtype=DIGEST)  # ascending

    def add(self, value: Any) -> str | None:
        """Record the id column of one row, and return the id; None where the value is no id."""
        name = id_text(value)
        self.present += name is not None
        if self.usable and name is None:
            self.settle()  # an id repeated before this row is the reason, not this row
            self._stop()
        elif self.usable and name is not None:
            self._recent.append(name)
            if len(self._recent) == RECENT:
                self.settle()
        return name

    def settle(self) -> None:
        """Compare the ids added since the last call with all others. Call once more at the end."""
        texts = [name.encode("utf-8", "surrogatepass") for name in self._recent]
        digests = [hashlib.blake2b(text, digest_size=16).digest() for text in texts]
        keys = np.array(digests, dtype=DIGEST)
        _, first = np.unique(keys, return_index=True)
        repeats = np.ones(len(keys), dtype=bool)
        repeats[first] = False
        if len(self._older):
            position = np.searchsorted(self._older, keys)
            repeats |= self._older[np.minimum(position, len(self._older) - 1)] == keys
        if repeats.any():
            self.repeated = self._recent[int(np.argmax(repeats))]
            self._stop()
        else:
            # two ascending runs: a stable sort merges them in one go
            merged = np.concatenate((self._older, np.sort(keys)))
            self._older = np.sort(merged, kind="stable")
            self._recent = []

    def _stop(self) -> None:
        self.usable, self._recent, self._older = False, [], np.empty(0, dtype=DIGEST)


def id_text(value: Any) -> str | None:
    """Return the id that a value of the id column stands for, None where it cannot be one."""
    usable = isinstance(value, str | int) and not isinstance(value, bool) and value != ""
    return str(value) if usable else None


def occurrences(digests: Digests) -> Ints:
    """Return [n]: how many earlier rows have the same digest, 0 for the first."""
    order = np.argsort(digests, kind="stable")
    ordered = digests[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))[: len(order)]
    sizes = np.diff(starts, append=len(order))
    found = np.empty(len(order), dtype=np.int64)
    found[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return found


@dataclass
class FirstPass:
    """Counts of a whole DATA and, 16 bytes a row, the digests of its rows.

    Ids and the fingerprint exist once `run` has been consumed.
    """

    parser: Parser
    # overlap keys of the test data: rows with one of these are dropped
    exclude: frozenset[str] = frozenset()
    quarantined: Counter[str] = field(default_factory=Counter)  # reason -> records
    rows: int = 0  # kept
    dropped: int = 0  # also in the test data
    _digests: bytearray = field(default_factory=bytearray)
    _kept: bytearray = field(default_factory=bytearray)  # [n] 1 kept, 0 dropped
    _user_ids: UserIds = field(default_factory=UserIds)
    _named: "hashlib._Hash" = field(default_factory=hashlib.sha256)  # fingerprint by user ids

    @property
    def rows_in(self) -> int:
        """Records that were read; each is kept, dropped or quarantined."""
        return self.rows + self.dropped + self.quarantined.total()

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> quarantined records, by name."""
        return dict(sorted(self.quarantined.items()))

    def run(self) -> Iterator[Example | BadRecord]:
        """Yield every record of the data, and count it."""
        for item in self.parser.parse():
            if isinstance(item, BadRecord):
                self.quarantined[item.reason] += 1
            else:
                self._count(item)
            yield item

    def _count(self, example: Example) -> None:
        kept = not self.exclude or overlap_key(example) not in self.exclude
        digest = bytes.fromhex(example.digest)
        self._digests += digest
        self._kept.append(kept)
        self.rows += kept
        self.dropped += not kept
        name = self._user_ids.add(self._id_of(example))
        if kept and name is not None:
            _hash_row(self._named, name, digest)

    def identify(self, examples: Iterable[Example]) -> Iterator[tuple[Example, bool]]:
        """Give the rows their ids in a second pass over them.

        Args:
            examples: The valid rows from the first one on, in the same order.

        Yields:
            Each row with its id, and whether it is kept.

        Raises:
            ChangedData: A row differs from the one that was counted at its position.
        """
        usable, counted = self._ids_usable, self._counted()
        for example in examples:
            digest, number, kept = next(counted, (b"", 0, 0))
            if digest.hex() != example.digest:
                raise ChangedData(example.source)
            own = id_text(self._id_of(example)) if usable else None
            yield replace(example, id=own or _hash_id(digest, number)), bool(kept)

    def fingerprint(self) -> str:
        """Return sha256 over the kept rows' ids and digests in order: content, not files."""
        if self._ids_usable:
            return self._named.hexdigest()
        sha = hashlib.sha256()
        for digest, number, kept in self._counted():
            if kept:
                _hash_row(sha, _hash_id(digest, number), digest)
        return sha.hexdigest()

    def warnings(self) -> list[str]:
        """Return a warning where the user's id column cannot be used."""
        if self._ids_usable or not self._user_ids.present:
            return []
        why, repeated = "some rows have none", self._user_ids.repeated
        if repeated is not None:
            why = f"'{repeated[:60]}' appears more than once"
        column = self._id_column
        return [f"the column '{column}' does not identify rows ({why}): ids are content hashes"]

    @property
    def _id_column(self) -> str:
        return self.parser.mapping.get("id", "id")

    def _id_of(self, example: Example) -> Any:
        return example.meta.get(self._id_column)

    @property
    def _ids_usable(self) -> bool:
        """Whether the id column names every row, each with another id."""
        if self._user_ids.usable:
            self._user_ids.settle()
        return self._user_ids.usable

    def _counted(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield (digest, earlier rows of the same digest, kept) of every valid row in order."""
        digests = np.frombuffer(bytes(self._digests), dtype=DIGEST)
        numbers = repeat(0, len(digests)) if self._ids_usable else map(int, occurrences(digests))
        parts = (bytes(self._digests[i : i + 16]) for i in range(0, len(self._digests), 16))
        return zip(parts, numbers, self._kept, strict=True)


def bad_rate(text: float) -> Fraction:
    """Return `--max-bad-rate` as the decimal that was typed, so that 1 of 100 is not above 0.01.

    Raises:
        UsageError: It is not between 0 and 1.
    """
    rate = Fraction(str(text))
    if not 0 <= rate <= 1:
        raise UsageError(f"max_bad_rate is {text}; it is a fraction between 0 and 1")
    return rate


def check_rate(
    quarantined: Mapping[str, int], rows_in: int, max_bad_rate: float, where: str
) -> None:
    """Refuse data with more bad records than allowed.

    Args:
        quarantined: Reason -> records.
        rows_in: Records read.
        max_bad_rate: Largest share of bad records, in [0, 1].
        where: A sentence that says where the bad records are listed.

    Raises:
        DataError: There are more; names count, reasons and `where`.
    """
    bad = sum(quarantined.values())
    if not rows_in or Fraction(bad, rows_in) <= bad_rate(max_bad_rate):
        return
    top = ", ".join(f"{reason} {n}" for reason, n in Counter(quarantined).most_common(5))
    raise DataError(
        f"{bad} of {rows_in} records cannot be read, more than --max-bad-rate {max_bad_rate}"
        f" allows: {top}. {where}",
        hint="mend the data, or raise --max-bad-rate to go on without these records",
    )


def check_any(found: FirstPass, data: str) -> None:
    """Refuse data of which no row is left.

    Raises:
        DataError: There is no usable row; says why.
    """
    if found.rows:
        return
    if not found.rows_in:
        raise DataError(f"'{data}' holds no record")
    if found.dropped:
        raise DataError(
            f"none of the {found.rows_in} records of '{data}' is left: {found.dropped} of them"
            " are also in the test data"
        )
    raise DataError(f"none of the {found.rows_in} records of '{data}' can be read")


def _hash_id(digest: bytes, number: int) -> str:
    return f"{digest.hex()[:16]}-{number}"


def _hash_row(sha: "hashlib._Hash", name: str, digest: bytes) -> None:
    sha.update(len(name.encode()).to_bytes(4, "big") + name.encode() + digest)
