"""`pilotfish train`: fine-tune the strong model on a run's selections."""

from typing import Annotated

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import Force, Json, Quiet, RunFolder, Set, Strong, Trusted, parse_names


def train(
    run: RunFolder,
    strong: Strong,
    arm: Annotated[str, typer.Option(metavar="NAME,..", help="Arms to train.")] = "selected",
    loss: Annotated[
        str | None, typer.Option(metavar="LOSS", help="lm, kd(...) or mix(lm=.., kd=..).")
    ] = None,
    weak: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The teacher; default: the run's weak model."),
    ] = None,
    trusted: Trusted = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0..N-1.")] = 1,
    set_: Set = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train one strong model per arm and seed, all with the same number of steps."""
    from pilotfish.flows.stages import train_stage

    models = train_stage(
        run, strong, arms=parse_names(arm), loss=loss, weak=weak, trusted=trusted, seeds=seeds,
        overrides=set_ or [], force=force, progress=Console(quiet=quiet),
    )  # fmt: skip
    if as_json:
        emit({"run": run, "models": models})
        return
    for model in models:
        what = f"{model['arm']} seed {model['seed']}"
        out(f"{what}: {model['rows']:,} rows, {model['steps']:,} steps -> {model['folder']}")
