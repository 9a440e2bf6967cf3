"""What the first pass over the data learns: who is kept, what everybody's id is, what was bad."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import repeat

import numpy as np

from pilotfish.data.row_ids import DIGEST, UserIds, id_text, occurrences
from pilotfish.errors import DataError, UsageError
from pilotfish.records import Example


class ChangedData(Exception):
    """A row is not the one that was counted in its place; says in which source."""


@dataclass
class FirstPass:
    """Counts and, 16 bytes a row, the digests; ids exist once every row has been seen."""

    id_column: str = "id"
    quarantined: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    dropped: int = 0
    _digests: bytearray = field(default_factory=bytearray)
    _kept: bytearray = field(default_factory=bytearray)  # [n] 1 kept, 0 dropped
    _user_ids: UserIds = field(default_factory=UserIds)
    _named: "hashlib._Hash" = field(default_factory=hashlib.sha256)  # fingerprint by user ids

    @property
    def rows_in(self) -> int:
        """Every record that was read; each is in exactly one of the three places."""
        return self.rows + self.dropped + self.quarantined.total()

    def add(self, example: Example, *, kept: bool) -> None:
        """Count one valid row."""
        digest = bytes.fromhex(example.digest)
        self._digests += digest
        self._kept.append(kept)
        self.rows += kept
        self.dropped += not kept
        name = self._user_ids.add(example.meta.get(self.id_column))
        if kept and name is not None:
            _enter(self._named, name, digest)

    def identified(self, examples: Iterable[Example]) -> Iterator[tuple[Example, bool]]:
        """The rows once more from the first on, each with its id and whether it is kept.

        Raises ChangedData for a row that is not the one counted in its place.
        """
        usable, counted = self._usable, self._counted()
        for example in examples:
            digest, number, kept = next(counted, (b"", 0, 0))
            if digest.hex() != example.digest:
                raise ChangedData(example.source)
            own = id_text(example.meta.get(self.id_column)) if usable else None
            yield replace(example, id=own or _hash_id(digest, number)), bool(kept)

    @property
    def _usable(self) -> bool:
        """Whether the id column names the rows."""
        if self._user_ids.usable:
            self._user_ids.settle()
        return self._user_ids.usable

    def _counted(self) -> Iterator[tuple[bytes, int, int]]:
        """(digest, rows of the same digest before it, kept) of every valid row in reading order."""
        digests = np.frombuffer(bytes(self._digests), dtype=DIGEST)
        numbers = repeat(0, len(digests)) if self._usable else map(int, occurrences(digests))
        parts = (bytes(self._digests[i : i + 16]) for i in range(0, len(self._digests), 16))
        return zip(parts, numbers, self._kept, strict=True)

    def fingerprint(self) -> str:
        """sha256 over the kept rows' ids and digests in order: content, not files."""
        if self._usable:
            return self._named.hexdigest()
        sha = hashlib.sha256()
        for digest, number, kept in self._counted():
            if kept:
                _enter(sha, _hash_id(digest, number), digest)
        return sha.hexdigest()

    def warnings(self) -> list[str]:
        """What a person should know about the ids."""
        if self._usable or not self._user_ids.present:
            return []
        twice, why = self._user_ids.repeated, "some rows have none"
        if twice is not None:
            why = f"'{twice[:60]}' stands more than once"
        return [f"the column '{self.id_column}' does not name rows ({why}): ids are content hashes"]


def _hash_id(digest: bytes, number: int) -> str:
    return f"{digest.hex()[:16]}-{number}"


def _enter(sha: "hashlib._Hash", name: str, digest: bytes) -> None:
    sha.update(len(name.encode()).to_bytes(4, "big") + name.encode() + digest)


def bad_rate(text: float) -> Fraction:
    """`--max-bad-rate` as the decimal that was typed, so that 1 of 100 is not more than 0.01."""
    rate = Fraction(str(text))
    if not 0 <= rate <= 1:
        raise UsageError(f"max_bad_rate is {text}; it is a fraction between 0 and 1")
    return rate


def check_rate(
    quarantined: Mapping[str, int], rows_in: int, max_bad_rate: float, where: str
) -> None:
    """DataError (exit 3) when more records are bad than allowed; says how many, why and where."""
    bad = sum(quarantined.values())
    if not rows_in or Fraction(bad, rows_in) <= bad_rate(max_bad_rate):
        return
    top = ", ".join(f"{reason} {n}" for reason, n in Counter(quarantined).most_common(5))
    raise DataError(
        f"{bad} of {rows_in} records cannot be read, more than --max-bad-rate {max_bad_rate}"
        f" allows: {top}. {where}",
        hint="mend the data, or raise --max-bad-rate to go on without these records",
    )


def check_any(rows: int, dropped: int, rows_in: int, data: str) -> None:
    """DataError when no row is left to work with."""
    if rows:
        return
    if not rows_in:
        raise DataError(f"'{data}' holds no record")
    if dropped:
        raise DataError(
            f"none of the {rows_in} records of '{data}' is left: {dropped} of them also"
            " stand in the test data"
        )
    raise DataError(f"none of the {rows_in} records of '{data}' can be read")
