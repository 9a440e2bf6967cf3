"""`pilotfish train`: fine-tune the strong model on a run's selections."""

from typing import Annotated

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import (
    Force,
    Json,
    Quiet,
    RunFolder,
    Set,
    Strong,
    TrustRemoteCode,
    parse_names,
)


def train(
    run: RunFolder,
    strong: Strong,
    arm: Annotated[str, typer.Option(metavar="NAME,..", help="Which arms.")] = "selected",
    loss: Annotated[
        str | None, typer.Option(metavar="LOSS", help="lm, kd, or mix(lm=0.7, kd=0.3).")
    ] = None,
    weak: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The teacher of kd; default: the run's weak model."),
    ] = None,
    trusted: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Rows a person vouches for: the trusted arms' own."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="How many: seeds 0 to N-1.")] = 1,
    set_: Set = None,
    force: Force = False,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune the strong model on a run's selections.

    One model per arm and seed, all with the same number of optimizer steps; finished models are
    kept, and one that was interrupted goes on from its last checkpoint. Settings of training go
    through --set train.NAME=VALUE. `torchrun -m pilotfish train ...` trains on several devices.

    \b
    Examples:
      pilotfish train RUN --strong LARGE
      pilotfish train RUN --strong LARGE --loss 'mix(lm=0.7, kd=0.3)' --set train.max_steps=500
    """
    from pilotfish.experiments.train import train_arms

    models = train_arms(
        run, strong, arms=parse_names(arm), loss=loss, weak=weak, trusted=trusted, seeds=seeds,
        overrides=set_ or [], force=force, progress=Console(quiet=quiet),
    )  # fmt: skip
    if not models:  # a rank of torchrun's that only trained along; the first one speaks
        return
    if as_json:
        emit({"run": run, "models": models})
        return
    for model in models:
        what = f"{model['arm']} seed {model['seed']}"
        out(f"{what}: {model['rows']:,} rows, {model['steps']:,} steps -> {model['folder']}")
