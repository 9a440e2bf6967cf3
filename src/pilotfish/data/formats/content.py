"""The interface of a format, the content it returns, and readers for its columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pilotfish.records import Turn

Record = Mapping[str, Any]


class FormatMismatch(Exception):
    """A record that cannot become a row. Internal: the reader turns it into a quarantine line.

    Args:
        reason: The quarantine code (`missing_field`, `wrong_type`, `invalid_json`, ...).
        detail: The problem in words.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a record. `used` names the columns it was read from; the rest is meta."""

    turns: tuple[Turn, ...] = ()
    text: str | None = None
    label: str | None = None
    used: tuple[str, ...] = ()


class Format(Protocol):
    """One shape of data. `fields` are the columns it may read, the only ones `--map` may fill."""

    name: str
    fields: tuple[str, ...]

    def detect(self, record: Record) -> bool:
        """Return whether the record has the columns that this shape requires."""

    def parse(self, record: Record) -> Content:
        """Return the content of one record.

        Raises:
            FormatMismatch: `missing_field` or `wrong_type`.
        """

    def answered(self, record: Record, answer: str) -> dict[str, Any]:
        """Return the fields that change, with their new values, when a record's answer changes."""


def required_text(record: Record, name: str) -> str:
    """Return a text column that must exist, white space unchanged."""
    value = record.get(name)
    if value is None:  # null and absent are the same: parquet cannot tell them apart
        raise FormatMismatch("missing_field", f"no '{name}'")
    if not isinstance(value, str):
        raise FormatMismatch("wrong_type", f"'{name}' is {kind(value)}, not text")
    return value


def optional_text(record: Record, name: str) -> str:
    """Return a text column, "" where it is absent or null."""
    return "" if record.get(name) is None else required_text(record, name)


def required_list(record: Record, name: str) -> Sequence[Any]:
    """Return a list column that must exist and not be empty."""
    value = record.get(name)
    if value is None:
        raise FormatMismatch("missing_field", f"no '{name}'")
    if not isinstance(value, list):
        raise FormatMismatch("wrong_type", f"'{name}' is {kind(value)}, not a list")
    if not value:
        raise FormatMismatch("missing_field", f"'{name}' is empty")
    return value


def kind(value: Any) -> str:
    """Return the JSON type of a value, in words."""
    if isinstance(value, bool):
        return "a boolean"
    words = {int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return words.get(type(value), "null")


def present(record: Record, names: Sequence[str]) -> tuple[str, ...]:
    """Return those of `names` that this record has as columns."""
    return tuple(name for name in names if name in record)
