"""JSON that vouches for itself: strict, the same bytes for the same value, a digest over it all.

A manifest holds the digests of its files, and nothing holds its own: a bit flipped in a count, a
name or a score key would be believed. So each file of JSON bears a seal: the digest of its bytes as
they are with the seal left blank.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from pilotfish.errors import DamagedRun

SEAL = "seal"


def dump_json(value: Any) -> bytes:
    """Strict (no NaN), sorted, readable JSON bytes: the same value gives the same bytes."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    # a lone surrogate becomes its JSON escape instead of an error
    return (text + "\n").encode("utf-8", "backslashreplace")


def with_checksum(value: Mapping[str, Any]) -> bytes:
    """The bytes of a JSON object with its seal; ValueError for what strict JSON cannot say."""
    blank = dump_json({**value, SEAL: ""})
    return _LINE.sub(_line(hashlib.sha256(blank).hexdigest()), blank, count=1)


def checked_json(data: bytes, name: str) -> dict[str, Any]:
    """What was sealed, without its seal; DamagedRun, naming the file, for any other bytes."""
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


# Only the outermost object's keys are indented by two; a line feed inside a text is escaped.
_LINE = re.compile(rb'\n  "seal": "([0-9a-f]{64}|)"')
