"""`pilotfish select`: spend a budget on finished scores; fp32 ones need no torch."""

from typing import Annotated

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import Budget, Direction, Force, Json, Quiet, RunFolder


def select(
    run: RunFolder,
    method: Annotated[str, typer.Option(metavar="METHOD", help="A method, or a score column.")],
    budget: Budget,
    as_: Annotated[
        str, typer.Option("--as", metavar="NAME", help="The selection's name.")
    ] = "selected",
    direction: Direction = None,
    allow_short: Annotated[
        bool,
        typer.Option("--allow-short", help="Take fewer rows than asked where fewer may be picked."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of methods that draw, such as `random`.")] = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pick rows until the budget is spent, with a reason for every row.

    Exactly what was asked is delivered, or the command ends with exit 2 naming both numbers. Rows
    without a score are never picked. Loads no model and needs no torch, unless the scores were made
    in bf16 or int8: then the rows near the cut are measured again in fp32 first.

    \b
    Examples:
      pilotfish select RUN --method superfiltering --budget 10%
      pilotfish select RUN --method perplexity --direction middle --budget 500rows --as middle
    """
    from pilotfish.audit import words
    from pilotfish.config import parse_method
    from pilotfish.flows.select import select as flow
    from pilotfish.store import Run

    flow(
        run, method=parse_method(method), budget=budget, name=as_, direction=direction, seed=seed,
        allow_short=allow_short, force=force, progress=Console(quiet=quiet),
    )  # fmt: skip
    facts = Run(run).section("selections")[as_]
    said = [*facts.get("cascade", {}).get("sentences", [])]
    said += words(facts["audit"]) if "audit" in facts else []
    if as_json:
        emit({"run": run, "name": as_, **facts, "sentences": said})
        return
    out(f"{as_}: {facts['delivered']:,} rows by {facts['method']} (budget {budget})")
    for sentence in said:
        out(sentence)
    out(f"rows: {run}/selections/{as_}/selected.jsonl")
