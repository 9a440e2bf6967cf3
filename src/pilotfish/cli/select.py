"""`pilotfish select`: spend a budget on finished scores; needs no torch."""

from typing import Annotated

import typer

from pilotfish.cli.console import emit, out
from pilotfish.cli.options import Budget, Direction, Force, Json, RunFolder, Seed


def select(
    run: RunFolder,
    method: Annotated[str, typer.Option(metavar="METHOD", help="A method or score of the run.")],
    budget: Budget,
    as_: Annotated[
        str, typer.Option("--as", metavar="NAME", help="The selection's name.")
    ] = "selected",
    direction: Direction = None,
    allow_short: Annotated[
        bool,
        typer.Option("--allow-short", help="Take fewer rows than asked where fewer may be picked."),
    ] = False,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Pick rows by a method until the budget is spent; every row gets a decision and a reason."""
    from pilotfish.config import parse_method
    from pilotfish.flows.select import select as flow
    from pilotfish.store import Run

    flow(
        run, method=parse_method(method), budget=budget, name=as_, direction=direction, seed=seed,
        allow_short=allow_short, force=force,
    )  # fmt: skip
    facts = Run(run).section("selections")[as_]
    if as_json:
        emit({"run": run, "name": as_, **facts})
        return
    out(f"{as_}: {facts['delivered']:,} rows by {facts['method']} (budget {budget})")
    out(f"rows: {run}/selections/{as_}/selected.jsonl")
