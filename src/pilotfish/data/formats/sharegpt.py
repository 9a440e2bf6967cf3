"""ShareGPT: conversations, a list of {from, value}."""

from typing import Any

from pilotfish.data.formats.content import Content, Record, optional_text, present, required_list
from pilotfish.data.formats.turns import SHAREGPT
from pilotfish.records import Turn


class ShareGPT:
    """{"conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}]}."""

    name = "sharegpt"
    fields: tuple[str, ...] = ("conversations", "system")

    def detect(self, record: Record) -> bool:
        """Require `conversations`."""
        return "conversations" in record

    def parse(self, record: Record) -> Content:
        """Return every turn, a `system` column first. Turns with more keys also stay in meta."""
        messages = required_list(record, "conversations")
        turns = SHAREGPT.turns(messages)
        if system := optional_text(record, "system"):
            turns = (Turn("system", system), *turns)
        used = self.fields if SHAREGPT.is_complete(messages) else ("system",)
        return Content(turns, used=present(record, used))

    def answered(self, record: Record, answer: str) -> dict[str, Any]:
        """Replace or add the last assistant message."""
        return {"conversations": SHAREGPT.answered(record["conversations"], answer)}
