"""Rows as lines of JSON: as they came, as conversations, or as questions with one answer each."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pilotfish.data.formats import FORMATS, FormatMismatch
from pilotfish.errors import DataError
from pilotfish.records import Example, Turn
from pilotfish.tokenization import render
from pilotfish.tokenization.render import turns_of


def line(record: Any) -> str:
    """Write one line of readable JSON; lone surrogates of the dataset become escapes."""
    text = json.dumps(record, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()


def text_of(lines: Iterable[str]) -> str:
    """Join the lines of a file."""
    return "".join(f"{each}\n" for each in lines)


def as_they_came(rows: Sequence[Example]) -> list[str]:
    """Return the records as they were read, byte for byte where they came from a file of lines."""
    return [row.raw for row in rows]


def native(rows: Sequence[Example]) -> str | None:
    """Return the format that all records are in, None where there is no such format.

    A record whose columns were mapped by hand has none, since a trainer would not find them.
    """
    found = {_native(row) for row in rows}
    return found.pop() if len(found) == 1 else None


def _native(row: Example) -> str | None:
    try:
        record = json.loads(row.raw)
        name = next(name for name, shape in FORMATS.items() if shape.detect(record))
        content = FORMATS[name].parse(record)
    except (ValueError, TypeError, StopIteration, FormatMismatch):
        return None
    same = (content.turns, content.text, content.label) == (row.turns, row.text, row.label)
    return name if same else None


def columns(rows: Sequence[Example]) -> set[str]:
    """Return the columns that are not empty in some record."""
    return {name for row in rows for name, value in json.loads(row.raw).items() if value}


def messages(turns: Iterable[Turn]) -> list[dict[str, str]]:
    """Return turns as chat trainers read them."""
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def conversation(row: Example) -> dict[str, Any]:
    """Return a row as {"messages": [...]}. Raises DataError for plain text."""
    return {"messages": messages(_answered_turns(row))}


def question(row: Example) -> dict[str, Any]:
    """Return {"prompt": [...], "completion": [...]}: only the last answer is trained on."""
    turns = _answered_turns(row)
    return {"prompt": messages(turns[:-1]), "completion": messages(turns[-1:])}


def plain_question(row: Example) -> dict[str, str]:
    """Return the same with texts, rendered without a chat template."""
    _answered_turns(row)
    *prompt, answer = render(row)
    return {"prompt": "".join(part.text for part in prompt), "completion": answer.text}


def segments(row: Example, end: str | None) -> dict[str, Any]:
    """Return {"segments": [{"label", "text"}]}: the same text and loss mask as in pilotfish.

    Args:
        row: The row.
        end: The end token, appended to every answer; None for none.
    """
    parts: list[dict[str, Any]] = []
    for part in render(row):
        closed = part.text + (end or "") if part.supervised else part.text
        parts.append({"label": part.supervised, "text": closed})
    return {"segments": parts}


def several_answers(rows: Sequence[Example]) -> int:
    """Count the rows with more than one answer."""
    return sum(sum(turn.role == "assistant" for turn in row.turns) > 1 for row in rows)


def _answered_turns(row: Example) -> tuple[Turn, ...]:
    turns = turns_of(row)
    if not turns or turns[-1].role != "assistant":
        what = "ends with a question" if turns else "is plain text"
        raise DataError(
            f"row '{row.id}' {what}, and other rows of the same arm answer one: no file of this "
            "trainer holds both",
            hint="export --to jsonl writes the rows as they came",
        )
    return turns
