"""Clean text from outside before it is shown: hidden characters made visible, secrets removed.

Every text needs this wherever it is shown; escaping for HTML is done by the templates.
"""

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

from pilotfish.redaction import redact

_PLAIN = {"\n", "\t", "\u200c", "\u200d"}  # the joiners are spelling in Persian, Hindi and emoji
_STACK = 4  # accents on one letter; real spelling needs at most three


def visible(text: str) -> str:
    """Return the text with control, bidi and format characters written out.

    ESC becomes its picture, U+202E the text `[U+202E]`, and a lone surrogate the replacement
    character. Of accents stacked on one letter, at most four are kept.
    """
    shown: list[str] = []
    stacked = 0
    for char in text.replace("\r\n", "\n"):
        category = unicodedata.category(char)
        stacked = stacked + 1 if category in ("Mn", "Me") else 0
        if stacked <= _STACK:
            shown.append(char if char in _PLAIN else _picture(char, category))
    return "".join(shown)


def _picture(char: str, category: str) -> str:
    point = ord(char)
    if category == "Cs":
        return "\ufffd"
    if category == "Cc" and point < 0x20:
        return chr(0x2400 + point)
    if category in ("Cc", "Cf", "Zl", "Zp") or (category == "Cn" and point & 0xFFFE == 0xFFFE):
        return f"[U+{point:04X}]"
    return char


def clean(value: Any) -> Any:
    """Return a JSON value with all texts redacted and visible, and null for nan and infinity."""
    if isinstance(value, str):
        return visible(redact(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {clean(str(key)): clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [clean(inner) for inner in value]
    return value


def excerpt(text: str, limit: int) -> str:
    """Return at most `limit` characters of a text, and how many more there are."""
    if len(text) <= limit:
        return text
    return f"{text[:limit].rstrip()} … (+{len(text) - limit:,} characters)"
