"""Lists of messages -> turns, for every format that holds conversations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.data.formats.content import FormatMismatch, kind, required_text
from pilotfish.records import Role, Turn


@dataclass(frozen=True)
class MessageList:
    """One way to write a conversation as a list of objects."""

    role_key: str  # the key that names the speaker
    text_key: str  # the key that holds the text
    roles: Mapping[str, Role]  # speaker -> role. A new role alias is one line in this table.
    assistant: str  # the speaker of an answer that is added to a conversation

    def turns(self, messages: Sequence[Any]) -> tuple[Turn, ...]:
        """Return the turns in order.

        Raises:
            FormatMismatch: A message is not an object, lacks a key or has an unknown role.
        """
        return tuple(self._turn(message) for message in messages)

    def is_complete(self, messages: Sequence[Any]) -> bool:
        """Return whether role and text are all the messages hold (keys set to null aside)."""
        known = {self.role_key, self.text_key}
        return all(v is None for each in messages for key, v in each.items() if key not in known)

    def answered(self, messages: Sequence[Any], answer: str) -> list[Any]:
        """Return the messages with `answer` as the text of the final assistant message.

        A message is added where the conversation does not end with the assistant.
        """
        if messages and self.roles[messages[-1][self.role_key]] == "assistant":
            return [*messages[:-1], {**messages[-1], self.text_key: answer}]
        return [*messages, {self.role_key: self.assistant, self.text_key: answer}]

    def _turn(self, message: Any) -> Turn:
        if not isinstance(message, dict):
            raise FormatMismatch("wrong_type", f"a turn is {kind(message)}, not an object")
        speaker = required_text(message, self.role_key)
        if speaker not in self.roles:
            raise FormatMismatch("wrong_type", f"unknown {self.role_key} '{speaker[:40]}'")
        return Turn(self.roles[speaker], required_text(message, self.text_key))


_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}

CHAT = MessageList("role", "content", _ROLES, assistant="assistant")
SHAREGPT = MessageList(
    "from",
    "value",
    {
        **_ROLES,
        "human": "user",
        "gpt": "assistant",
        "chatgpt": "assistant",
        "model": "assistant",
        "function_call": "assistant",
        "observation": "tool",
        "function_response": "tool",
    },
    assistant="gpt",
)
