"""`pilotfish train`: fine-tune the strong model on a run's selections."""

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

if TYPE_CHECKING:
    from pilotfish.config import Recipe


@recipe_options(
    FieldOption("strong", required=True),
    FieldOption("weak", help="The teacher of kd; default: the run's weak model."),
    FieldOption("trusted", help="Trusted rows, for the trusted arms."),
    FieldOption("seeds", default=1, help="Number of models per arm, with seeds 0 to N-1."),
    "trust_remote_code",
)
def train(
    run: RunFolder,
    recipe: "Recipe",
    arm: Annotated[str, typer.Option(metavar="NAME,..", help="Which arms.")] = "selected",
    loss: Annotated[
        str | None, typer.Option(metavar="LOSS", help="lm, kd, or mix(lm=0.7, kd=0.3).")
    ] = None,
    set_: Set = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune the strong model on a run's selections.

    One model per arm and seed, all with the same number of optimizer steps; finished models are
    kept, and an interrupted one continues from its last checkpoint. Settings of training are given
    by --set train.NAME=VALUE. `torchrun -m pilotfish train ...` trains on several devices.

    \b
    Examples:
      pilotfish train RUN --strong LARGE
      pilotfish train RUN --strong LARGE --loss 'mix(lm=0.7, kd=0.3)' --set train.max_steps=500
    """
    from pilotfish.experiments.train import train_arms

    models = train_arms(
        run, recipe.strong, arms=parse_names(arm), loss=loss, weak=recipe.weak or None,
        trusted=recipe.trusted, seeds=recipe.n_seeds, overrides=set_ or [], force=force,
        progress=Console(quiet=quiet),
    )  # fmt: skip
    if not models:  # another rank of torchrun than the first, which prints
        return
    if as_json:
        emit({"run": run, "models": models})
        return
    for model in models:
        what = f"{model['arm']} seed {model['seed']}"
        out(f"{what}: {model['rows']:,} rows, {model['steps']:,} steps -> {model['folder']}")
