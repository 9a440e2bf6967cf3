"""Classification: a text and its label."""

from typing import Any

from pilotfish.data.formats.content import Content, FormatMismatch, Record, kind, required_text


class TextLabel:
    """{"text": ..., "label": ...}; the label a name, a whole number or a boolean."""

    name = "text_label"
    fields: tuple[str, ...] = ("text", "label")

    def detect(self, record: Record) -> bool:
        """text and label are there."""
        return "text" in record and "label" in record

    def parse(self, record: Record) -> Content:
        """The text and the label as text: 1 becomes "1", true becomes "true"."""
        text = required_text(record, "text")
        return Content(text=text, label=_label(record.get("label")), used=self.fields)

    def answered(self, record: Record, answer: str) -> dict[str, Any]:
        """Another label, of the kind the record had: a number or boolean stays one."""
        return {"label": _alike(record.get("label"), answer)}


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


def _alike(value: Any, answer: str) -> str | int | float | bool:
    """The answer as what `value` is, where that reads as the same class again; else as text."""
    found: str | int | float | bool = answer
    if isinstance(value, bool):
        found = answer == "true"
    elif isinstance(value, int | float) and answer.removeprefix("-").isdecimal():
        found = type(value)(answer)
    return found if isinstance(found, str) or _label(found) == answer else answer
