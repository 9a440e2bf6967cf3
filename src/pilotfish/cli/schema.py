"""`pilotfish schema`: the recipe's JSON Schema, for editors and for other tools."""

import json

from pilotfish.cli.console import out


def schema() -> None:
    """Print the JSON Schema of a recipe."""
    from pilotfish.config import Recipe

    out(json.dumps(Recipe.model_json_schema(), indent=2))
