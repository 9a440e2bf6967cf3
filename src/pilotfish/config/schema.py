"""The JSON Schema of everything that may stand in a recipe file."""

from typing import Any

from pydantic.json_schema import models_json_schema

from pilotfish.config.recipe import Recipe
from pilotfish.config.weak_to_strong import WeakToStrong


def recipe_schema() -> dict[str, Any]:
    """A recipe that names an experiment is one of its kind, any other is one of `run`."""
    _, found = models_json_schema([(Recipe, "validation"), (WeakToStrong, "validation")])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pilotfish recipe",
        "type": "object",
        "if": {"required": ["experiment"]},
        "then": {"$ref": "#/$defs/WeakToStrong"},
        "else": {"$ref": "#/$defs/Recipe"},
        **found,
    }
