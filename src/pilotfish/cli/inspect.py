"""`pilotfish inspect`: what the data looks like, before anything is spent."""

from typing import TYPE_CHECKING

import typer

from pilotfish.cli.console import emit, out, print_error
from pilotfish.cli.options import READING, FieldOption, Json, Quiet, recipe_options

if TYPE_CHECKING:
    from pilotfish.config import Recipe


@recipe_options(
    "data",
    FieldOption("weak", help="Render the row with this model's chat template."),
    *READING,
    "trust_remote_code",
)
def inspect(recipe: "Recipe", as_json: Json = False, quiet: Quiet = False) -> None:
    """Show the schema found, one rendered row, and what is bad.

    The tokens that a model is trained on are shown between [[ and ]]. Nothing is written. Ends with
    exit 3 where a run would stop because too many records are bad.

    \b
    Examples:
      pilotfish inspect rows.jsonl
      pilotfish inspect qa.csv --map prompt=question,completion=answer --weak SMALL
    """
    from pilotfish.data.held_out import source_of_recipe
    from pilotfish.diagnostics.inspect import inspect_source

    seen = inspect_source(source_of_recipe(recipe), model=recipe.weak or None)
    error = seen.error(recipe.max_bad_rate)
    if as_json:
        failure = (
            {"error": str(error), "exit": error.exit_code, "hint": error.hint} if error else {}
        )
        emit(seen.as_dict() | failure)
    else:
        for line in seen.lines():
            out(line)
    if error:
        raise typer.Exit(print_error(str(error), error.exit_code, error.hint, as_json=False))
