"""What a format hands back, and the two questions every format answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pilotfish.records import Turn

Record = Mapping[str, Any]


class FormatMismatch(Exception):
    """A record that is no row: `reason` is its quarantine code, `detail` says it in words.

    Internal: the pool turns it into a quarantine line, a user never meets it.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Content:
    """What a record says; `used` names the columns it was read from, the rest is meta."""

    turns: tuple[Turn, ...] = ()
    text: str | None = None
    label: str | None = None
    used: tuple[str, ...] = ()


class Format(Protocol):
    """One shape of data. `fields` are the columns it may read, the only ones `--map` may fill."""

    name: str
    fields: tuple[str, ...]

    def detect(self, record: Record) -> bool:
        """Whether the columns this shape cannot do without are there."""

    def parse(self, record: Record) -> Content:
        """The content of one record; raises Unfit (`missing_field`, `wrong_type`)."""

    def answered(self, record: Record, answer: str) -> dict[str, Any]:
        """The fields that change, with their new values, when a record gets another answer."""


def required_text(record: Record, name: str) -> str:
    """A text column that must be there; whitespace is never touched."""
    value = record.get(name)
    if value is None:  # null and absent are one thing: parquet cannot tell them apart
        raise FormatMismatch("missing_field", f"no '{name}'")
    if not isinstance(value, str):
        raise FormatMismatch("wrong_type", f"'{name}' is {kind(value)}, not text")
    return value


def optional_text(record: Record, name: str) -> str:
    """A text column that may be absent or null: "" then."""
    return "" if record.get(name) is None else required_text(record, name)


def required_list(record: Record, name: str) -> Sequence[Any]:
    """A list column that must be there and hold something."""
    value = record.get(name)
    if value is None:
        raise FormatMismatch("missing_field", f"no '{name}'")
    if not isinstance(value, list):
        raise FormatMismatch("wrong_type", f"'{name}' is {kind(value)}, not a list")
    if not value:
        raise FormatMismatch("missing_field", f"'{name}' is empty")
    return value


def kind(value: Any) -> str:
    """JSON's word for a value's type."""
    if isinstance(value, bool):
        return "a boolean"
    words = {int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return words.get(type(value), "null")


def present(record: Record, names: Sequence[str]) -> tuple[str, ...]:
    """The columns of `names` that this record has."""
    return tuple(name for name in names if name in record)
