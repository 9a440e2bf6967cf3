"""What the first pass over the data learns: who is kept, what everybody's id is, what was bad."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from pilotfish.errors import DataError, UsageError
from pilotfish.records import Example


@dataclass
class Census:
    """Counts and, 16 bytes a row, the digests; ids exist once every row has been seen."""

    id_column: str = "id"
    quarantined: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    dropped: int = 0
    _digests: bytearray = field(default_factory=bytearray)
    _kept: bytearray = field(default_factory=bytearray)  # [n] 1 kept, 0 dropped
    _user_ids: dict[str, None] | None = field(default_factory=dict)  # ordered, None: unusable
    _with_id: int = 0
    _repeated: str | None = None

    @property
    def rows_in(self) -> int:
        """Every record that was read; each is in exactly one of the three places."""
        return self.rows + self.dropped + self.quarantined.total()

    def add(self, example: Example, *, kept: bool) -> None:
        """Count one valid row."""
        self._digests += bytes.fromhex(example.digest)
        self._kept.append(kept)
        self.rows += kept
        self.dropped += not kept
        self._note_id(example.meta.get(self.id_column))

    def _note_id(self, value: Any) -> None:
        usable = isinstance(value, str | int) and not isinstance(value, bool) and value != ""
        self._with_id += usable
        if self._user_ids is None:
            return
        if usable and str(value) not in self._user_ids:
            self._user_ids[str(value)] = None
            return
        if usable and self._repeated is None:
            self._repeated = str(value)
        self._user_ids = None

    def marks(self) -> Iterator[tuple[str, bool]]:
        """(id, kept) of every valid row in reading order."""
        return zip(self._ids(), map(bool, self._kept), strict=True)

    def _ids(self) -> Iterator[str]:
        if self._user_ids is not None:
            yield from self._user_ids
            return
        seen: Counter[bytes] = Counter()
        for digest in self.digests():
            yield f"{digest.hex()[:16]}-{seen[digest]}"
            seen[digest] += 1

    def digests(self) -> Iterator[bytes]:
        """[n] content digests, 16 bytes each, in reading order."""
        return (bytes(self._digests[i : i + 16]) for i in range(0, len(self._digests), 16))

    def fingerprint(self) -> str:
        """sha256 over the kept rows' ids and digests in order: content, not files."""
        sha = hashlib.sha256()
        for (name, kept), digest in zip(self.marks(), self.digests(), strict=True):
            if kept:
                sha.update(len(name.encode()).to_bytes(4, "big") + name.encode() + digest)
        return sha.hexdigest()

    def warnings(self) -> list[str]:
        """What a person should know about the ids."""
        if self._user_ids is not None or not self._with_id:
            return []
        why = (
            f"'{self._repeated[:60]}' stands more than once"
            if self._repeated is not None
            else "some rows have none"
        )
        return [f"the column '{self.id_column}' does not name rows ({why}): ids are content hashes"]


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
