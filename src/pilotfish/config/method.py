"""The METHOD grammar: `name`, `name(key=value, ...)`, `my_module:MyThing(...)`; also used for LOSS.

Values are JSON scalars or bare words; quoted with '...' where they hold commas or parentheses.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from pilotfish.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][\w.\-]*(:[A-Za-z_]\w*)?")
_BARE_POINT = re.compile(r"^(-?)\.(?=\d)")
_KEY = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Method:
    """A method as typed: its name, its knobs, and its text without spaces."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)
    text: str = ""


def parse_method(text: str) -> Method:
    """Parse one METHOD; UsageError says what is wrong and where."""
    plain = text.strip()
    match = re.fullmatch(r"([^()]+?)\s*(?:\((.*)\))?", plain, flags=re.DOTALL)
    if not match or not _NAME.fullmatch(match[1]):
        raise UsageError(
            f"cannot read the method '{text}'", hint="write name or name(key=value, key=value)"
        )
    args: dict[str, Any] = {}
    for piece in split_commas(match[2] or "") if (match[2] or "").strip() else []:
        key, equals, value = piece.partition("=")
        key = key.strip()
        if not equals or not _KEY.fullmatch(key):
            raise UsageError(f"in '{text}': '{piece.strip()}' is not key=value")
        if key in args:
            raise UsageError(f"in '{text}': '{key}' is given twice")
        args[key] = _value(value.strip(), text)
    return Method(match[1], args, _squeeze(plain))


def parse_methods(text: str) -> list[Method]:
    """Parse a list of METHODs, split on the commas outside parentheses and quotes."""
    return [parse_method(piece) for piece in split_commas(text)]


def split_commas(text: str) -> list[str]:
    """Split on commas outside (...) and '...'."""
    pieces, depth, quoted, current = [], 0, False, ""
    for char in text:
        if char == "'":
            quoted = not quoted
        elif not quoted:
            depth += {"(": 1, ")": -1}.get(char, 0)
            if depth < 0:
                break
            if char == "," and depth == 0:
                pieces.append(current)
                current = ""
                continue
        current += char
    if depth or quoted:
        raise UsageError(f"'{text}' has an unclosed quote or parenthesis")
    return [*pieces, current]


def _value(text: str, whole: str) -> Any:
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1]
    if not text:
        raise UsageError(f"in '{whole}': a value is missing")
    try:
        # people write .5, JSON wants 0.5
        value = json.loads(_BARE_POINT.sub(r"\g<1>0.", text), parse_constant=_no_constant)
    except ValueError:
        return text  # a bare word
    if isinstance(value, dict | list):
        raise UsageError(f"in '{whole}': '{text}' is not a scalar")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _squeeze(text: str) -> str:
    """The text without spaces, those inside quotes kept."""
    parts = text.split("'")
    return "'".join(
        part if index % 2 else re.sub(r"\s+", "", part) for index, part in enumerate(parts)
    )
