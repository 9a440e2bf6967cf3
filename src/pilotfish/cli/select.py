"""`pilotfish select`: spend a budget on finished scores; fp32 ones need no torch."""

from typing import Annotated, Any

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import Budget, Direction, Force, Json, Quiet, RunFolder, TrustRemoteCode


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
    dedup: Annotated[
        str | None,
        typer.Option(metavar="exact|near", help="Keep only the best-ranked row of equal ones."),
    ] = None,
    quota: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Share the rows among groups: COLUMN[:balanced]."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of methods that draw, such as `random`.")] = 0,
    canaries: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Plant N rows of each attack beside the pool."),
    ] = 0,
    force: Force = False,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pick rows until the budget is spent, with a reason for every row.

    Exactly what was asked is delivered, or the command ends with exit 2 naming both numbers. Rows
    without a score are never picked. Loads no model and needs no torch, unless the scores were made
    in bf16 or int8: then the rows near the cut are measured again in fp32 first. --canaries tells
    how often planted rows of six attacks would be kept; it loads the weak model, changes nothing.

    --dedup near drops texts that share four fifths of their word triples with a better-ranked one.
    --quota source gives each file its share of the budget, as large as its share of the pool;
    COLUMN may be any column of the rows, and ':balanced' or ':web=1,books=3' another way to share.

    \b
    Examples:
      pilotfish select RUN --method superfiltering --budget 10%
      pilotfish select RUN --method perplexity --direction middle --budget 500rows --as middle
      pilotfish select RUN --method superfiltering --budget 10% --canaries 20
      pilotfish select RUN --method superfiltering --budget 10% --dedup near --quota source:balanced
    """
    from pilotfish.config import parse_method
    from pilotfish.scoring.audit import audit_sentences
    from pilotfish.selection.constraints import Constraints, sentences_of
    from pilotfish.selection.select import SelectConfig
    from pilotfish.selection.select import select as flow
    from pilotfish.store import Run

    flow(
        run,
        SelectConfig(
            parse_method(method),
            budget,
            name=as_,
            direction=direction,
            seed=seed,
            allow_short=allow_short,
            constraints=Constraints.parse(dedup, quota),
        ),
        force=force,
        progress=Console(quiet=quiet),
    )
    facts = Run(run).section("selections")[as_]
    said = [*facts.get("cascade", {}).get("sentences", [])]
    said += audit_sentences(facts["audit"]) if "audit" in facts else []
    said += sentences_of(facts)
    planted: dict[str, Any] = {}
    if canaries:
        from pilotfish.selection.canaries.lift import measure_canaries, sentences

        planted = {
            "canaries": measure_canaries(run, [as_], canaries, progress=Console(quiet=quiet))[as_]
        }
        said += sentences(planted["canaries"])
    if as_json:
        emit({"run": run, "name": as_, **facts, "sentences": said, **planted})
        return
    out(f"{as_}: {facts['delivered']:,} rows by {facts['method']} (budget {budget})")
    for sentence in said:
        out(sentence)
    out(f"rows: {run}/selections/{as_}/selected.jsonl")
