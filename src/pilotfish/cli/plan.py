"""`pilotfish plan`: the steps of a run and what each takes, before anything is spent."""

from typing import TYPE_CHECKING, Annotated

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import READING, FieldOption, Json, Quiet, recipe_options

if TYPE_CHECKING:
    from pilotfish.config import Recipe


@recipe_options(
    FieldOption("data", metavar="RECIPE.yaml|DATA", help="A recipe, or rows."),
    "weak",
    "strong",
    "budget",
    "method",
    "direction",
    "trusted",
    "test",
    "metric",
    FieldOption("evidence", help="Evidence level to plan; the price of every level is printed."),
    "seeds",
    *READING,
    "max_length",
    "precision",
    "allow_short",
    "seed",
    "trust_remote_code",
    whole=True,
)
def plan(
    recipe: "Recipe",
    per_hour: Annotated[
        float | None,
        typer.Option("--per-hour", min=0, help="What an hour of this machine costs, as 2.50."),
    ] = None,
    no_probe: Annotated[
        bool,
        typer.Option("--no-probe", help="Load no model: FLOPs over measured speed, and rough."),
    ] = False,
    probe_seconds: Annotated[
        float,
        typer.Option("--probe-seconds", min=1, help="What the probe may take in all."),
    ] = 20.0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Price a run before it starts.

    Prints the numbered steps with rows, tokens, FLOPs, memory, time and money of each, what a
    selection must save to pay off, and what every level of evidence costs. Nothing is trained and
    no run folder is written. A short probe runs a few batches, steps and answers on this machine,
    so plan where you will run. Options win over the recipe.

    \b
    Examples:
      pilotfish plan rows.jsonl --weak SMALL --strong LARGE --budget 10%
      pilotfish plan recipe.yaml --per-hour 2.50
      pilotfish plan rows.jsonl --weak SMALL --strong LARGE --no-probe --json
    """
    from pilotfish.planning.plan import plan as flow

    found = flow(
        recipe, per_hour=per_hour, probing=not no_probe, seconds=probe_seconds,
        progress=Console(quiet=quiet),
    )  # fmt: skip
    if as_json:
        emit(found.as_dict())
        return
    for line in found.lines():
        out(line)
