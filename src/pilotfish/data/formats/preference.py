"""Preference data is refused in words: a row with two answers is not a row with one."""

from pilotfish.data.formats.content import Record
from pilotfish.errors import UsageError

_ANSWERED = ("messages", "conversations", "completion", "output")


def is_preference(record: Record) -> bool:
    """Chosen and rejected answers, ranked outputs, or an answer with a thumb up or down."""
    if "chosen" in record and "rejected" in record:
        return True
    if isinstance(record.get("output"), list):
        return True
    thumbs = [record.get("label"), record.get("kto_tag")]
    return any(isinstance(thumb, bool) for thumb in thumbs) and any(
        name in record for name in _ANSWERED
    )


def refuse(record: Record) -> UsageError:
    """The error that says what was seen and how to go on."""
    seen = ", ".join(sorted(record))
    hint = "give rows with one answer each"
    if isinstance(record.get("chosen"), str):
        hint += "; to take the chosen answers: --map completion=chosen"
    return UsageError(
        f"this is preference data (columns: {seen}); pilotfish selects rows to imitate,"
        " and cannot tell which of these answers to learn",
        hint=hint,
    )
