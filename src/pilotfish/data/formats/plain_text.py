"""Plain text: one column `text`, all of it trained on."""

from typing import Any

from pilotfish.data.formats.content import Content, Record, required_text


class PlainText:
    """{"text": ...}."""

    name = "plain_text"
    fields: tuple[str, ...] = ("text",)

    def detect(self, record: Record) -> bool:
        """Require `text`."""
        return "text" in record

    def parse(self, record: Record) -> Content:
        """Return the text."""
        return Content(text=required_text(record, "text"), used=self.fields)

    def answered(self, record: Record, answer: str) -> dict[str, Any]:
        """Add a label, which makes it a row of text and label."""
        return {"label": answer}
