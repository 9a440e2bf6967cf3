"""Prompt and completion: two texts, or two lists of messages."""

from typing import Any

from pilotfish.data.formats.content import Content, Record, required_list, required_text
from pilotfish.data.formats.turns import ROLES, answered_turns, only_turns, read_turns
from pilotfish.records import Turn


class PromptCompletion:
    """{"prompt": ..., "completion": ...}; each a text, or each a list of {role, content}."""

    name = "prompt_completion"
    fields: tuple[str, ...] = ("prompt", "completion")

    def detect(self, record: Record) -> bool:
        """prompt and completion are there."""
        return "prompt" in record and "completion" in record

    def parse(self, record: Record) -> Content:
        """A user turn and an assistant turn, or the messages of both, in order."""
        if isinstance(record.get("prompt"), list):
            return self._chat(record)
        asked = Turn("user", required_text(record, "prompt"))
        answer = Turn("assistant", required_text(record, "completion"))
        return Content((asked, answer), used=self.fields)

    def answered(self, record: Record, answer: str) -> dict[str, Any]:
        """Another completion: a text, or another last message of the assistant."""
        if not isinstance(record["prompt"], list):
            return {"completion": answer}
        items = answered_turns(record["completion"], answer, speaker="role", words="content")
        return {"completion": items}

    def _chat(self, record: Record) -> Content:
        items = [*required_list(record, "prompt"), *required_list(record, "completion")]
        turns = read_turns(items, speaker="role", words="content", roles=ROLES)
        whole = only_turns(items, speaker="role", words="content")
        return Content(turns, used=self.fields if whole else ())
