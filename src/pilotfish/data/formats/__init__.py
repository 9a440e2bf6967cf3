"""One file per dataset shape: record -> content. Detection tries the table's entries in order."""

from pilotfish.data.formats.alpaca import Alpaca
from pilotfish.data.formats.content import Content, Format, FormatMismatch, Record
from pilotfish.data.formats.messages import Messages
from pilotfish.data.formats.plain_text import PlainText
from pilotfish.data.formats.prompt_completion import PromptCompletion
from pilotfish.data.formats.sharegpt import ShareGPT
from pilotfish.data.formats.text_label import TextLabel

__all__ = ["FORMATS", "Content", "Format", "FormatMismatch", "Record"]

HELPERS = {"content", "turns"}  # files here that are no format

FORMATS: dict[str, Format] = {
    "messages": Messages(),
    "sharegpt": ShareGPT(),
    "alpaca": Alpaca(),
    "prompt_completion": PromptCompletion(),
    "text_label": TextLabel(),
    "plain_text": PlainText(),
}
