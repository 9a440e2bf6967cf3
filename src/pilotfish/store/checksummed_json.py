"""JSON with a checksum of itself: strict, the same bytes for the same value.

A manifest holds the digests of its files, but a bit flipped in the manifest itself would go
unnoticed. So each JSON file holds a seal: the digest of its own bytes with the seal left blank.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from pilotfish.errors import DamagedRun

SEAL = "seal"

# Only the outermost object's keys are indented by two; a line feed inside a text is escaped.
_LINE = re.compile(rb'\n  "seal": "([0-9a-f]{64}|)"')


def with_checksum(value: Mapping[str, Any]) -> bytes:
    """Return the bytes of a JSON object with its seal.

    Raises:
        ValueError: Strict JSON cannot hold the value (NaN).
    """
    text = json.dumps(
        {**value, SEAL: ""}, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False
    )
    # a lone surrogate becomes its JSON escape instead of an error
    blank = (text + "\n").encode("utf-8", "backslashreplace")
    return _LINE.sub(_line(hashlib.sha256(blank).hexdigest()), blank, count=1)


def checked_json(data: bytes, name: str) -> dict[str, Any]:
    """Return a sealed JSON object without its seal.

    Raises:
        DamagedRun: The bytes are not those that were written; says `name`.
    """
    line = _LINE.search(data)
    blank = _LINE.sub(_line(""), data, count=1)
    if line is None or line[1].decode() != hashlib.sha256(blank).hexdigest():
        raise DamagedRun(
            f"{name} is not what was committed: its seal does not match",
            hint="make it again with --force, or take the run from a backup",
        )
    found: dict[str, Any] = json.loads(data)
    del found[SEAL]
    return found


def _line(digest: str) -> bytes:
    return f'\n  "{SEAL}": "{digest}"'.encode()
