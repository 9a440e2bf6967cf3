"""`pilotfish select`: spend a budget on finished scores; fp32 ones need no torch."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import FieldOption, Force, Json, Quiet, RunFolder, recipe_options

if TYPE_CHECKING:
    from pilotfish.config import Recipe


@recipe_options(
    FieldOption("method", help="A method, or a score column.", required=True),
    FieldOption("budget", required=True),
    "direction",
    "allow_short",
    FieldOption("seed", help="Seed of methods that draw, such as `random`."),
    "trust_remote_code",
)
def select(
    run: RunFolder,
    recipe: "Recipe",
    as_: Annotated[
        str, typer.Option("--as", metavar="NAME", help="The selection's name.")
    ] = "selected",
    dedup: Annotated[
        str | None,
        typer.Option(metavar="exact|near", help="Keep only the best-ranked row of equal ones."),
    ] = None,
    quota: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Share the budget among groups: COLUMN[:balanced]."),
    ] = None,
    canaries: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Measure how often N canary rows of each attack are selected."
        ),
    ] = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pick rows until the budget is spent, with a reason for each.

    The budget is met exactly, or the command ends with exit 2 naming both numbers. Rows without a
    score are never selected. Loads no model and needs no torch, unless the scores were made in bf16
    or int8: then the rows near the cut are measured again in fp32 first. --canaries measures how
    often canary rows of six attacks would be selected; it loads the weak model, changes nothing.

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
            parse_method(recipe.method or ""),
            recipe.budget,
            name=as_,
            direction=recipe.direction,
            seed=recipe.seed,
            allow_short=recipe.allow_short,
            constraints=Constraints.parse(dedup, quota),
        ),
        force=force,
        progress=Console(quiet=quiet),
    )
    facts = Run(run).section("selections")[as_]
    summary = [*facts.get("cascade", {}).get("sentences", [])]
    summary += audit_sentences(facts["audit"]) if "audit" in facts else []
    summary += sentences_of(facts)
    lift: dict[str, Any] = {}
    if canaries:
        from pilotfish.selection.canaries.lift import measure_canaries, sentences

        lift = {
            "canaries": measure_canaries(run, [as_], canaries, progress=Console(quiet=quiet))[as_]
        }
        summary += sentences(lift["canaries"])
    if as_json:
        emit({"run": run, "name": as_, **facts, "sentences": summary, **lift})
        return
    out(f"{as_}: {facts['delivered']:,} rows by {facts['method']} (budget {recipe.budget})")
    for sentence in summary:
        out(sentence)
    out(f"rows: {run}/selections/{as_}/selected.jsonl")
