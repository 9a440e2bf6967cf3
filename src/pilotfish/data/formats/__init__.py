"""One file per dataset shape: record -> content. The order of the table is the order of trying."""

from collections.abc import Mapping, Sequence

from pilotfish.data.formats.alpaca import Alpaca
from pilotfish.data.formats.content import Content, Format, FormatMismatch, Record
from pilotfish.data.formats.detection import answered_record, choose, split_record
from pilotfish.data.formats.messages import Messages
from pilotfish.data.formats.plain_text import PlainText
from pilotfish.data.formats.prompt_completion import PromptCompletion
from pilotfish.data.formats.sharegpt import ShareGPT
from pilotfish.data.formats.text_label import TextLabel

__all__ = [
    "FORMATS",
    "Content",
    "Format",
    "FormatMismatch",
    "answered_record",
    "detect",
    "split_record",
]

HELPERS = {"content", "detection", "preference", "turns"}  # files here that are no format

FORMATS: dict[str, Format] = {
    "messages": Messages(),
    "sharegpt": ShareGPT(),
    "alpaca": Alpaca(),
    "prompt_completion": PromptCompletion(),
    "text_label": TextLabel(),
    "plain_text": PlainText(),
}


def detect(records: Sequence[Record], mapping: Mapping[str, str] | None = None) -> Format:
    """The format of a source, by the majority of some of its records (never empty).

    mapping: canonical field -> the user's column. Raises UsageError in words: preference data, a
    mapped field or column that does not exist, or no known format.
    """
    return choose(records, mapping or {}, FORMATS)
