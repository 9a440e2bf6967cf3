"""Plain text: one column `text`, all of it learnt."""

from pilotfish.formats.content import Content, Record, required_text


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
