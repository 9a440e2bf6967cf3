"""ShareGPT: conversations, a list of {from, value}."""

from typing import Any

from pilotfish.data.formats.content import Content, Record, optional_text, present, required_list
from pilotfish.data.formats.turns import ROLES, answered_turns, only_turns, read_turns
from pilotfish.records import Turn

SPEAKERS = {
    **ROLES,
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
}


class ShareGPT:
    """{"conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}]}."""

    name = "sharegpt"
    fields: tuple[str, ...] = ("conversations", "system")

    def detect(self, record: Record) -> bool:
        """conversations is there."""
        return "conversations" in record

    def parse(self, record: Record) -> Content:
        """Every turn; a `system` column goes first. Turns that say more also stay in meta."""
        items = required_list(record, "conversations")
        turns = read_turns(items, speaker="from", words="value", roles=SPEAKERS)
        system = optional_text(record, "system")
        first = (Turn("system", system),) if system else ()
        whole = only_turns(items, speaker="from", words="value")
        return Content((*first, *turns), used=present(record, self.fields if whole else ["system"]))

    def answered(self, record: Record, answer: str) -> dict[str, Any]:
        """Another last message of the model, or the first one."""
        items = answered_turns(
            record["conversations"], answer, speaker="from", words="value", roles=SPEAKERS,
            name="gpt",
        )  # fmt: skip
        return {"conversations": items}
