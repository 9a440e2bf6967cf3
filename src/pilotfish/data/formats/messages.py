"""Chat messages: a list of {role, content}, the canonical conversational shape."""

from typing import Any

from pilotfish.data.formats.content import Content, Record, required_list
from pilotfish.data.formats.turns import ROLES, answered_turns, only_turns, read_turns


class Messages:
    """{"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}."""

    name = "messages"
    fields: tuple[str, ...] = ("messages",)

    def detect(self, record: Record) -> bool:
        """messages is there."""
        return "messages" in record

    def parse(self, record: Record) -> Content:
        """Every turn. Messages that say more (tool calls, names) also stay in meta, whole."""
        items = required_list(record, "messages")
        turns = read_turns(items, speaker="role", words="content", roles=ROLES)
        whole = only_turns(items, speaker="role", words="content")
        return Content(turns, used=self.fields if whole else ())

    def answered(self, record: Record, answer: str) -> dict[str, Any]:
        """Another last message of the assistant, or the first one."""
        items = answered_turns(record["messages"], answer, speaker="role", words="content")
        return {"messages": items}
