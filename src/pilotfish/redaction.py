"""Keys, tokens and passwords taken out of text before it is shown or kept.

Two ways to know one: by its looks (the forms that services give their tokens, a password in an
address), and by its value, where this process has it in an environment variable named like one.
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
_LEAST = 12  # characters: a shorter value stands in too many texts by chance


def redact(text: str) -> str:
    """The same text without what looks like a secret, or is one of this process's environment."""
    for pattern, kept in _SECRETS:
        text = pattern.sub(kept, text)
    known = _known(tuple(value for name, value in os.environ.items() if _NAMED.search(name)))
    return known.sub("…", text) if known else text


def redact_values(value: Any) -> Any:
    """A JSON value to be kept: every text in it redacted, but for paths, which must lead on."""
    if isinstance(value, str):
        return value if _leads_somewhere(value) else redact(value)
    if isinstance(value, Mapping):
        return {redact_values(key): redact_values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(inner) for inner in value]
    return value


def _leads_somewhere(text: str) -> bool:
    """Whether a text begins with a folder or file that is there."""
    parts = Path(text).parts
    return bool(parts) and os.path.exists(Path(*parts[: 2 if parts[0] == "/" else 1]))


@lru_cache(maxsize=8)
def _known(values: tuple[str, ...]) -> re.Pattern[str] | None:
    long = sorted({value for value in values if len(value) >= _LEAST}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, long))) if long else None
