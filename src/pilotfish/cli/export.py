"""`pilotfish export`: an arm's rows and settings, written for a trainer elsewhere."""

from typing import TYPE_CHECKING, Annotated

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import (
    FieldOption,
    Force,
    Json,
    Quiet,
    RunFolder,
    Set,
    parse_names,
    recipe_options,
)
from pilotfish.errors import UsageError

if TYPE_CHECKING:
    from pilotfish.config import Recipe


@recipe_options(FieldOption("strong", help="The model to be trained; default: the run's."))
def export(
    run: RunFolder,
    recipe: "Recipe",
    to: Annotated[str, typer.Option(metavar="TARGET", help="jsonl, trl, llamafactory or axolotl.")],
    arms: Annotated[
        str,
        typer.Option(metavar="NAME,..", help="Which arms; random-0 names one seed's."),
    ] = "selected",
    out_: Annotated[
        str | None,
        typer.Option("--out", metavar="DIR", help="Where to; default: RUN/exports/TARGET."),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(metavar="N,..", help="Which seeds; default: every one of the run's."),
    ] = None,
    set_: Set = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write an arm's rows and settings for a trainer elsewhere.

    Rows are in the order of training, in the trainer's own format; all arms share steps, batch
    size, learning rate and LoRA settings, so that they can be compared. README.md in the folder
    explains how to bring the results back.

    \b
    Example:
      pilotfish export RUN --to trl --arms selected,random,length_matched
    """
    from pilotfish.export.export import ExportOptions
    from pilotfish.export.export import export as write

    options = ExportOptions(parse_names(arms), _numbers(seed), recipe.strong or None, set_ or [])
    exported = write(run, to, options, folder=out_, force=force, progress=Console(quiet=quiet))
    if as_json:
        emit(exported)
        return
    for arm in exported["arms"]:
        out(f"{arm['file']}: {arm['rows']:,} rows of {arm['arm']}, seed {arm['seed']}")
    out(f"next: {exported['folder']}/README.md")


def _numbers(text: str | None) -> list[int]:
    names = parse_names(text)
    if wrong := [name for name in names if not name.isdecimal()]:
        raise UsageError(f"--seed: '{wrong[0]}' is no whole number", hint="write e.g. --seed 0,1,2")
    return [int(name) for name in names]
