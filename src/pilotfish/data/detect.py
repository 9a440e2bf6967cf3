"""Detect the format of a source, and let `--map` fill a format's field from any column."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pilotfish.data.formats import FORMATS, Content, Format, Record
from pilotfish.errors import UsageError, unknown_name

_PREFERENCE = "preference"
_ANSWER_COLUMNS = ("messages", "conversations", "completion", "output")


def detect(records: Sequence[Record], mapping: Mapping[str, str] | None = None) -> Format:
    """Choose the format that most records have; a tie goes to the first format of the table.

    Args:
        records: The first records of the data, at least one.
        mapping: Canonical field -> the user's column.

    Raises:
        UsageError: Preference data, a mapped field or column that does not exist, or no known
            format.
    """
    mapping = mapping or {}
    candidates = _candidates(mapping)
    columns = sorted({column for record in records for column in record})
    _check_columns(mapping, columns)
    views = [view(record, mapping) for record in records]
    votes: Counter[str] = Counter()
    for seen in views:
        names = (name for name, format in candidates.items() if format.detect(seen))
        name = _PREFERENCE if is_preference(seen) else next(names, None)
        votes.update([name] if name else [])
    if not votes:
        raise UsageError(
            "cannot tell which columns hold the prompt and the answer."
            f" Columns: {', '.join(column[:60] for column in columns[:20])}.",
            hint="name them, for example --map prompt=question,completion=answer"
            " (a csv or tsv file needs a header line)",
        )
    winner = max((_PREFERENCE, *FORMATS), key=lambda name: votes[name])
    if winner == _PREFERENCE:
        raise _refuse_preference(next(seen for seen in views if is_preference(seen)))
    return FORMATS[winner]


def view(record: Record, mapping: Mapping[str, str]) -> Record:
    """Return the record under canonical names: mapped columns renamed, hidden ones left out."""
    if not mapping:
        return record
    hidden = {*mapping.values(), *mapping}
    kept = {key: value for key, value in record.items() if key not in hidden}
    return kept | {to: record[column] for to, column in mapping.items() if column in record}


def split_record(
    record: Record, mapping: Mapping[str, str], format: Format
) -> tuple[Content, dict[str, Any]]:
    """Split a record into its content and its meta: the columns that the format did not read.

    Raises:
        FormatMismatch: The record does not have this format.
    """
    content = format.parse(view(record, mapping))
    used = {mapping.get(name, name) for name in content.used}
    return content, {key: value for key, value in record.items() if key not in used}


def answered_record(
    record: Record, mapping: Mapping[str, str], format: Format, answer: str
) -> dict[str, Any]:
    """Return a parseable record with `answer` instead of its own, in the user's columns.

    Everything else is unchanged. A column that is added (the label of plain text) comes last.
    """
    changed = format.answered(view(record, mapping), answer)
    return {**record, **{mapping.get(name, name): value for name, value in changed.items()}}


def is_preference(record: Record) -> bool:
    """Return whether a record has chosen and rejected answers, ranked outputs, or a thumb rating.

    A row with two answers is not a row with one, so such data is refused.
    """
    if "chosen" in record and "rejected" in record:
        return True
    if isinstance(record.get("output"), list):
        return True
    thumbs = [record.get("label"), record.get("kto_tag")]
    return any(isinstance(thumb, bool) for thumb in thumbs) and any(
        name in record for name in _ANSWER_COLUMNS
    )


def _refuse_preference(record: Record) -> UsageError:
    hint = "give rows with one answer each"
    if isinstance(record.get("chosen"), str):
        hint += "; to take the chosen answers: --map completion=chosen"
    return UsageError(
        f"this is preference data (columns: {', '.join(sorted(record))}); pilotfish selects rows"
        " to imitate, and cannot tell which of these answers to learn",
        hint=hint,
    )


def _candidates(mapping: Mapping[str, str]) -> Mapping[str, Format]:
    """Return the formats that have every mapped field (`id` belongs to all of them)."""
    wanted = [name for name in mapping if name != "id"]
    known = {field for format in FORMATS.values() for field in format.fields} | {"id"}
    for name in wanted:
        if name not in known:
            raise unknown_name("field", name, known)
    fits = {
        name: format for name, format in FORMATS.items() if all(w in format.fields for w in wanted)
    }
    if not fits:
        shapes = "; ".join(f"{name}: {', '.join(f.fields)}" for name, f in FORMATS.items())
        raise UsageError(
            f"no format has all of the mapped fields {', '.join(wanted)}",
            hint=f"map fields of one format ({shapes})",
        )
    return fits


def _check_columns(mapping: Mapping[str, str], columns: Sequence[str]) -> None:
    for field, column in mapping.items():
        if column not in columns:
            near = difflib.get_close_matches(column, columns, n=1)
            guess = f"; did you mean '{near[0]}'?" if near else "."
            raise UsageError(
                f"--map {field}={column}: no column is called '{column}'{guess}"
                f" Columns: {', '.join(columns)}."
            )
