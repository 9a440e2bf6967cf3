"""Parse JSON strictly: Python's parser accepts NaN, 1e999, duplicate keys, NUL and more."""

import json
import math
import re
from typing import Any

from pilotfish.data.formats import FormatMismatch

MAX_DEPTH = 100
_SURROGATE = re.compile("[\ud800-\udfff]")
_INT_DIGITS = 20  # of 2**64 - 1


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse one JSON object from its UTF-8 bytes.

    Raises:
        FormatMismatch: With the quarantine code of what is wrong.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatMismatch("invalid_utf8", f"byte {error.start} is not UTF-8") from error
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        if "\0" in text:
            raise FormatMismatch("nul_char", "a NUL byte") from error
        raise FormatMismatch("invalid_json", str(error)) from error
    if not isinstance(value, dict):
        raise FormatMismatch("not_object", "the record is not a JSON object")
    _check_depth(data, value)
    if b"\\u" in data:  # raw NUL and raw surrogates cannot have come this far
        _check_text(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise FormatMismatch("duplicate_key", f"the key '{repeated[:40]}' appears twice")
    return found


def _int(digits: str) -> int:
    if len(digits) > _INT_DIGITS + 1 or not -(2**63) <= int(digits) < 2**64:
        raise FormatMismatch("int_too_big", f"{digits[:24]} does not fit 64 bits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise FormatMismatch("nonfinite_number", f"{digits[:24]} is beyond a float")
    return value


def _constant(word: str) -> Any:
    raise FormatMismatch("nonfinite_number", f"{word} is no JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_int, parse_float=_float, parse_constant=_constant
)


def _too_deep() -> FormatMismatch:
    return FormatMismatch("too_deep", f"nested deeper than {MAX_DEPTH}")


def _check_depth(data: bytes, value: dict[str, Any]) -> None:
    """Refuse deeper nesting than MAX_DEPTH; counts levels only where there are enough brackets."""
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    if any(isinstance(inner, dict | list) for inner in level):
        raise _too_deep()


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _check_text(value: dict[str, Any]) -> None:
    """Refuse NUL and half surrogate pairs in every string, keys included."""
    waiting: list[Any] = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, str):
            if "\0" in current:
                raise FormatMismatch("nul_char", "a text holds NUL")
            if _SURROGATE.search(current):
                raise FormatMismatch("lone_surrogate", "a text holds half of a surrogate pair")
        elif isinstance(current, dict):
            waiting.extend(current)
        waiting.extend(_inside(current))
