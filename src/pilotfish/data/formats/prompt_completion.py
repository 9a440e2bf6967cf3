"""Prompt and completion: two texts, or two lists of messages."""

from typing import Any

from pilotfish.data.formats.content import Content, Record, required_list, required_text
from pilotfish.data.formats.turns import CHAT
from pilotfish.records import Turn


class PromptCompletion:
    """{"prompt": ..., "completion": ...}; each a text, or each a list of {role, content}."""

    name = "prompt_completion"
    fields: tuple[str, ...] = ("prompt", "completion")

    def detect(self, record: Record) -> bool:
        """Require `prompt` and `completion`."""
        return "prompt" in record and "completion" in record

    def parse(self, record: Record) -> Content:
        """Return a user and an assistant turn, or the messages of both columns in order."""
        if isinstance(record.get("prompt"), list):
            messages = [*required_list(record, "prompt"), *required_list(record, "completion")]
            turns = CHAT.turns(messages)
            return Content(turns, used=self.fields if CHAT.is_complete(messages) else ())
        prompt = Turn("user", required_text(record, "prompt"))
        completion = Turn("assistant", required_text(record, "completion"))
        return Content((prompt, completion), used=self.fields)

    def answered(self, record: Record, answer: str) -> dict[str, Any]:
        """Replace the completion: the text, or its last assistant message."""
        if not isinstance(record["prompt"], list):
            return {"completion": answer}
        return {"completion": CHAT.answered(record["completion"], answer)}
