"""Settings of any recipe: overrides on top, and validation errors as messages."""

from collections.abc import Mapping
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

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
