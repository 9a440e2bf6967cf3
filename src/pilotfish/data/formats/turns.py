"""A list of {speaker, words} objects -> turns; what messages, sharegpt and chat prompts share."""

from collections.abc import Mapping, Sequence
from typing import Any

from pilotfish.data.formats.content import FormatMismatch, kind, required_text
from pilotfish.records import Turn

ROLES = {role: role for role in ("system", "user", "assistant", "tool")}


def read_turns(
    items: Sequence[Any], *, speaker: str, words: str, roles: Mapping[str, str]
) -> tuple[Turn, ...]:
    """Turns in order; Unfit where an item is no object, a part is missing or a role unknown."""
    return tuple(_turn(item, speaker, words, roles) for item in items)


def only_turns(items: Sequence[Any], *, speaker: str, words: str) -> bool:
    """Whether the objects say nothing beyond speaker and words (null extras say nothing)."""
    known = {speaker, words}
    return all(value is None for item in items for key, value in item.items() if key not in known)


def answered_turns(
    items: Sequence[Any],
    answer: str,
    *,
    speaker: str,
    words: str,
    roles: Mapping[str, str] = ROLES,
    name: str = "assistant",
) -> list[Any]:
    """The items with `answer` as the words of the last one, where the assistant says it.

    Where it does not, an item is added, spoken by `name`.
    """
    if items and roles[items[-1][speaker]] == "assistant":
        return [*items[:-1], {**items[-1], words: answer}]
    return [*items, {speaker: name, words: answer}]


def _turn(item: Any, speaker: str, words: str, roles: Mapping[str, str]) -> Turn:
    if not isinstance(item, dict):
        raise FormatMismatch("wrong_type", f"a turn is {kind(item)}, not an object")
    said_by = required_text(item, speaker)
    if said_by not in roles:
        raise FormatMismatch("wrong_type", f"unknown {speaker} '{said_by[:40]}'")
    return Turn(roles[said_by], required_text(item, words))
