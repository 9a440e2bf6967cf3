"""Classification: a text and its label."""

from typing import Any

from pilotfish.data.formats.content import Content, FormatMismatch, Record, kind, required_text


class TextLabel:
    """{"text": ..., "label": ...}; the label is a name, a whole number or a boolean."""

    name = "text_label"
    fields: tuple[str, ...] = ("text", "label")

    def detect(self, record: Record) -> bool:
        """Require `text` and `label`."""
        return "text" in record and "label" in record

    def parse(self, record: Record) -> Content:
        """Return the text, and the label as text: 1 becomes "1", true becomes "true"."""
        text = required_text(record, "text")
        return Content(text=text, label=_label(record.get("label")), used=self.fields)

    def answered(self, record: Record, answer: str) -> dict[str, Any]:
        """Replace the label, as a number or boolean where that reads as the same class."""
        old = record.get("label")
        new: str | int | float | bool = answer
        if isinstance(old, bool):
            new = answer == "true"
        elif isinstance(old, int | float) and answer.removeprefix("-").isdecimal():
            new = type(old)(answer)
        return {"label": new if _label(new) == answer else answer}


def _label(value: Any) -> str:
    if value is None:
        raise FormatMismatch("missing_field", "no 'label'")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    # A class column with gaps comes out of many tools as 0.0, 1.0
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    raise FormatMismatch("wrong_type", f"'label' is {kind(value)}, not a class")
