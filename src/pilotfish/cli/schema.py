"""`pilotfish schema`: the recipe's JSON Schema, for editors and for other tools."""

import json

from pilotfish.cli.console import emit, out
from pilotfish.cli.options import Json


def schema(as_json: Json = False) -> None:
    """Print the JSON Schema of a recipe, of `run` or of `compare`."""
    from pilotfish.config import recipe_schema

    found = recipe_schema()
    if as_json:
        emit(found)
        return
    out(json.dumps(found, indent=2))
