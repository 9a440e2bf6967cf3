"""Plain text: one column `text`, all of it learnt."""

from typing import Any

from pilotfish.data.formats.content import Content, Record, required_text


class PlainText:
    """{"text": ...}."""

    name = "plain_text"
    fields: tuple[str, ...] = ("text",)

    def detect(self, record: Record) -> bool:
        """text is there."""
        return "text" in record

    def parse(self, record: Record) -> Content:
        """The text."""
        return Content(text=required_text(record, "text"), used=self.fields)

    def answered(self, record: Record, answer: str) -> dict[str, Any]:
        """A label beside the text: it is a row with a label from now on."""
        return {"label": answer}
