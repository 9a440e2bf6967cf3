"""Alpaca: instruction, input, output; also system and history (earlier question/answer pairs)."""

from typing import Any

from pilotfish.data.formats.content import (
    Content,
    FormatMismatch,
    Record,
    kind,
    optional_text,
    present,
    required_text,
)
from pilotfish.records import Turn


class Alpaca:
    """{"instruction": ..., "input": ..., "output": ...}.

    The user's turn is the instruction, followed, where there is an input, by a newline and the
    input. The untemplated Superfiltering text relies on exactly this join.
    """

    name = "alpaca"
    fields: tuple[str, ...] = ("instruction", "input", "output", "system", "history")

    def detect(self, record: Record) -> bool:
        """Require `instruction` and `output`."""
        return "instruction" in record and "output" in record

    def parse(self, record: Record) -> Content:
        """Return [system], [earlier pairs], user, assistant."""
        prompt = required_text(record, "instruction")
        if extra := optional_text(record, "input"):
            prompt = f"{prompt}\n{extra}"
        output = required_text(record, "output")
        system = optional_text(record, "system")
        turns = (
            *((Turn("system", system),) if system else ()),
            *_history(record.get("history")),
            Turn("user", prompt),
            Turn("assistant", output),
        )
        return Content(turns, used=present(record, self.fields))

    def answered(self, record: Record, answer: str) -> dict[str, Any]:
        """Replace the output."""
        return {"output": answer}


def _history(value: Any) -> tuple[Turn, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise FormatMismatch("wrong_type", f"'history' is {kind(value)}, not a list")
    turns: list[Turn] = []
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2):
            raise FormatMismatch("wrong_type", "'history' holds something that is no pair")
        if not all(isinstance(text, str) for text in pair):
            raise FormatMismatch("wrong_type", "'history' holds a pair that is no text")
        turns += [Turn("user", pair[0]), Turn("assistant", pair[1])]
    return tuple(turns)
