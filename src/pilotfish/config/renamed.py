"""Recipe keys that were renamed: recipes, `--set` and run folders may still hold the old ones."""

from collections.abc import Iterable, Mapping
from typing import Any

from pilotfish.errors import UsageError

# Old key -> the key it has now, at the top level of a recipe.
RENAMED = {
    "tune": "weak_train",
    "money": "pricing",
    "equal": "matched_on",
    "choose": "method_selection",
}


def upgrade_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return recipe settings, or a section of run.json made of them, under today's keys.

    Raises:
        UsageError: The settings hold an old key and its new name.
    """
    _refuse_both(settings)
    return {RENAMED.get(key, key): value for key, value in settings.items()}


def upgrade_overrides(overrides: Iterable[str]) -> list[str]:
    """Return `--set` texts with today's keys: `tune.max_length=512` sets `weak_train.max_length`.

    Raises:
        UsageError: One text uses an old key and another one its new name.
    """
    texts = list(overrides)
    keys = [_key(text) for text in texts]
    _refuse_both(keys)
    return [
        text.replace(key, RENAMED.get(key, key), 1) for text, key in zip(texts, keys, strict=True)
    ]


def describe_old_keys(settings: Mapping[str, Any], overrides: Iterable[str]) -> str:
    """Return one sentence that names the old keys in use and their new names; "" for none."""
    used = {*settings, *map(_key, overrides)}
    pairs = [f"`{old}` is now `{new}`" for old, new in RENAMED.items() if old in used]
    return f"renamed recipe keys: {', '.join(pairs)}" if pairs else ""


def _key(override: str) -> str:
    """Return the top-level key that a `--set` text changes."""
    return override.partition("=")[0].partition(".")[0].strip()


def _refuse_both(keys: Iterable[str]) -> None:
    used = set(keys)
    for old, new in RENAMED.items():
        if {old, new} <= used:
            raise UsageError(
                f"`{old}` is the old name of `{new}`, and both are given", hint=f"keep `{new}`"
            )
