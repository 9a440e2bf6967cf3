"""Settings of any recipe: the base class, old key names, overrides, errors as messages."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pilotfish.errors import UsageError, unknown_name

Checked = TypeVar("Checked", bound=BaseModel)


def validate(
    model: type[Checked],
    settings: Mapping[str, Any],
    overrides: list[str] | None = None,
    *,
    parts: Mapping[object, type[BaseModel]],
) -> Checked:
    """Validate settings.

    Args:
        model: The class of the recipe.
        settings: Its settings as read.
        overrides: `a.b=value` texts, applied on top.
        parts: The classes of nested blocks by key, so that a misspelt setting is compared with the
            settings of its own block.

    Raises:
        UsageError: A setting is missing, unknown or wrong.
    """
    merged = dict(settings)
    for override in overrides or []:
        _set(merged, override)
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        raise _usage_error(error, model, parts) from error


def _set(settings: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    if not equals or not path.strip():
        raise UsageError(f"--set {override}: write --set a.b=value")
    *parents, last = path.strip().split(".")
    here = settings
    for parent in parents:
        inner = here.get(parent)
        here[parent] = dict(inner) if isinstance(inner, dict) else {}
        here = here[parent]
    try:
        here[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {override}: the value is not readable YAML") from error


def _usage_error(
    error: ValidationError, model: type[BaseModel], parts: Mapping[object, type[BaseModel]]
) -> UsageError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        fields = parts.get(first["loc"][0], model).model_fields
        return unknown_name("setting", str(first["loc"][-1]), fields)
    if first["type"] == "missing":
        return UsageError(f"the recipe lacks '{where}'", hint=f"add {where}: ... to it")
    seen = f" (seen: {first['input']!r})" if "input" in first else ""
    return UsageError(f"the setting '{where}' is wrong: {first['msg']}{seen}")


@dataclass(frozen=True)
class Metavar:
    """The word for a field's value in `--help`, as in `Annotated[str, Metavar("MODEL")]`."""

    text: str


class Block(BaseModel):
    """Settings that are checked: none unknown, no nan or infinity, and yes is not the number 1.

    The docstring below a field is its description: in the JSON Schema, and as the help of the
    command-line option that is built from the field.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_yes_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads yes, no, on and off as truth values, which Python takes for 1 and 0."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise PydanticCustomError("truth", "Input should be no yes or no")
        return value


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
