"""Remove keys, tokens and passwords from text before it is shown or stored.

A secret is recognised by its form (the token formats of services, a password in a URL), or by its
value, where this process has it in an environment variable with a name like TOKEN or PASSWORD.
"""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

_SECRETS = (
    (
        re.compile(r"\b(hf_|sk-|ghp_|gho_|github_pat_|xox[abp]-|AKIA|ASIA)[A-Za-z0-9_\-]{8,}"),
        r"\1…",
    ),
    (re.compile(r"(\w://)[^/\s@]+@"), r"\1…@"),
    (re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/\-]{12,}=*"), r"\1…"),
)
_NAMED = re.compile(
    r"(?i)(^|_)(token|secret|password|passwd|credentials?|(api|access|secret)_?key)(_|$)"
)
_MIN_LENGTH = 12  # characters: a shorter value is in too many texts by chance


def redact(text: str) -> str:
    """Return the text without anything that looks like a secret or is one of the environment."""
    for pattern, kept in _SECRETS:
        text = pattern.sub(kept, text)
    secrets = _pattern(tuple(value for name, value in os.environ.items() if _NAMED.search(name)))
    return secrets.sub("…", text) if secrets else text


def redact_values(value: Any) -> Any:
    """Return a JSON value with every text redacted, except paths, which must stay usable."""
    if isinstance(value, str):
        return value if _is_existing_path(value) else redact(value)
    if isinstance(value, Mapping):
        return {redact_values(key): redact_values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(inner) for inner in value]
    return value


def _is_existing_path(text: str) -> bool:
    """Return whether a text begins with an existing folder or file."""
    parts = Path(text).parts
    return bool(parts) and os.path.exists(Path(*parts[: 2 if parts[0] == "/" else 1]))


@lru_cache(maxsize=8)
def _pattern(values: tuple[str, ...]) -> re.Pattern[str] | None:
    long = sorted({value for value in values if len(value) >= _MIN_LENGTH}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, long))) if long else None
