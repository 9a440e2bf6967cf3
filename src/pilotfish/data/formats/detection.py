"""Which format a source has, and how `--map` lets any column take a format's field."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pilotfish.data.formats.content import Content, Format, Record
from pilotfish.data.formats.preference import is_preference, refuse
from pilotfish.errors import UsageError, unknown_name


def choose(
    records: Sequence[Record], mapping: Mapping[str, str], formats: Mapping[str, Format]
) -> Format:
    """The format most of `records` (never empty) have; a tie goes to the table's order.

    Raises UsageError for preference data, a mapping that fits nothing, or no known format.
    """
    candidates = _fitting(mapping, formats)
    _check_columns(records, mapping)
    views = [view(record, mapping) for record in records]
    votes = Counter(name for seen in views if (name := _vote(seen, candidates)))
    if not votes:
        raise _no_format(records)
    winner = max((_PREFERENCE, *formats), key=lambda name: votes[name])
    if winner == _PREFERENCE:
        raise refuse(next(seen for seen in views if is_preference(seen)))
    return formats[winner]


def view(record: Record, mapping: Mapping[str, str]) -> Record:
    """The record under canonical names: mapped columns renamed, those they hide left out."""
    if not mapping:
        return record
    hidden = {*mapping.values(), *mapping}
    kept = {key: value for key, value in record.items() if key not in hidden}
    return kept | {to: record[column] for to, column in mapping.items() if column in record}


def split_record(
    record: Record, mapping: Mapping[str, str], chosen: Format
) -> tuple[Content, dict[str, Any]]:
    """A record's content, and its meta: every column the format did not read, under its own name.

    Raises Unfit.
    """
    content = chosen.parse(view(record, mapping))
    used = {mapping.get(name, name) for name in content.used}
    return content, {key: value for key, value in record.items() if key not in used}


def answered_record(
    record: Record, mapping: Mapping[str, str], chosen: Format, answer: str
) -> dict[str, Any]:
    """A record that could be parsed, with `answer` in the place of its own, in the user's columns.

    All else is left as it is; a column that is added (the label of plain text) stands last.
    """
    changed = chosen.answered(view(record, mapping), answer)
    return {**record, **{mapping.get(name, name): value for name, value in changed.items()}}


_PREFERENCE = "preference"


def _vote(seen: Record, candidates: Mapping[str, Format]) -> str | None:
    if is_preference(seen):
        return _PREFERENCE
    return next((name for name, format in candidates.items() if format.detect(seen)), None)


def _fitting(mapping: Mapping[str, str], formats: Mapping[str, Format]) -> Mapping[str, Format]:
    """The formats that have every mapped field (`id` belongs to all of them)."""
    wanted = [name for name in mapping if name != "id"]
    known = {field for format in formats.values() for field in format.fields} | {"id"}
    for name in wanted:
        if name not in known:
            raise unknown_name("field", name, known)
    fits = {
        name: format for name, format in formats.items() if all(w in format.fields for w in wanted)
    }
    if not fits:
        shapes = "; ".join(f"{name}: {', '.join(f.fields)}" for name, f in formats.items())
        raise UsageError(
            f"no format has all of the mapped fields {', '.join(wanted)}",
            hint=f"map fields of one format ({shapes})",
        )
    return fits


def _columns(records: Iterable[Record]) -> list[str]:
    return sorted({column for record in records for column in record})


def _check_columns(records: Sequence[Record], mapping: Mapping[str, str]) -> None:
    columns = _columns(records)
    for field, column in mapping.items():
        if column not in columns:
            near = difflib.get_close_matches(column, columns, n=1)
            guess = f"; did you mean '{near[0]}'?" if near else "."
            raise UsageError(
                f"--map {field}={column}: no column is called '{column}'{guess}"
                f" Columns: {', '.join(columns)}."
            )


def _no_format(records: Sequence[Record]) -> UsageError:
    columns = ", ".join(column[:60] for column in _columns(records)[:20])
    return UsageError(
        f"cannot tell which columns hold the prompt and the answer. Columns: {columns}.",
        hint="name them, for example --map prompt=question,completion=answer"
        " (a csv or tsv file needs a header line)",
    )
