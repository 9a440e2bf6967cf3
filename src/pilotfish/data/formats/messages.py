"""Chat messages: a list of {role, content}, the canonical conversational shape."""

from typing import Any

from pilotfish.data.formats.content import Content, Record, required_list
from pilotfish.data.formats.turns import CHAT


class Messages:
    """{"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}."""

    name = "messages"
    fields: tuple[str, ...] = ("messages",)

    def detect(self, record: Record) -> bool:
        """Require `messages`."""
        return "messages" in record

    def parse(self, record: Record) -> Content:
        """Return every turn. Messages with more keys (tool calls, names) also stay in meta."""
        messages = required_list(record, "messages")
        turns = CHAT.turns(messages)
        return Content(turns, used=self.fields if CHAT.is_complete(messages) else ())

    def answered(self, record: Record, answer: str) -> dict[str, Any]:
        """Replace or add the last assistant message."""
        return {"messages": CHAT.answered(record["messages"], answer)}
