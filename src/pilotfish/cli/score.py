"""`pilotfish score`: measure with the weak model, one column per method."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import (
    READING,
    FieldOption,
    Force,
    Json,
    Out,
    Quiet,
    Set,
    parse_names,
    recipe_options,
)
from pilotfish.errors import UsageError

if TYPE_CHECKING:
    from pilotfish.config import Recipe
    from pilotfish.scoring.cascade_rows import CascadeConfig


@recipe_options(
    FieldOption("data", metavar="DATA|RUN", help="The rows, or a run to add scores to."),
    "weak",
    "trusted",
    "direction",
    "max_length",
    "precision",
    *READING,
    "seed",
    "trust_remote_code",
)
def score(
    method: Annotated[
        str | None, typer.Option(metavar="METHOD[,METHOD..]", help="See `pilotfish methods`.")
    ] = None,
    out_: Out = None,
    as_: Annotated[
        str | None, typer.Option("--as", metavar="NAME,..", help="Column names, one per method.")
    ] = None,
    *,
    recipe: "Recipe",
    set_: Set = None,
    cascade: Annotated[
        str | None,
        typer.Option(
            metavar="CHEAP",
            help="A cheaper model that scores every row first; --weak then scores only rows that "
            "may be selected. The rows may differ; their recall is measured. Needs --budget.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="BUDGET", help="For --cascade: how much will be selected, in % or rows."
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(help="For --cascade: share of the selected rows to find; default: 0.95."),
    ] = None,
    executor: Annotated[
        str,
        typer.Option(metavar="NAME", help="Where to score: local, ray (an extra) or ranks."),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes of this machine, or Ray actors; default: one per GPU."),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(help="For ranks: the rank of this process; default: from the launcher."),
    ] = None,
    world: Annotated[
        int | None, typer.Option(min=1, help="For ranks: the number of processes.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Only write the scores from what ranks have measured.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure every row with the weak model and score it.

    Writes RUN/scores.parquet: per method a value, or `unscorable` with a reason. The same
    command again measures only what is unfinished; scoring a RUN by another method adds columns.

    \b
    Examples:
      pilotfish score rows.jsonl --weak SMALL --method superfiltering --out RUN
      pilotfish score RUN --weak SMALL --method 'ifd,perplexity(direction=low)'
      pilotfish score rows.jsonl --weak SMALL --method ifd --out RUN --workers 4
      pilotfish score rows.jsonl --weak SMALL --method ifd --out RUN --executor ray
      pilotfish score rows.jsonl --weak SMALL --cascade TINY --budget 10% --method ifd --out RUN
      torchrun --nproc-per-node 4 -m pilotfish score rows.jsonl --weak SMALL --method ifd
        --out RUN --executor ranks
      pilotfish score RUN --merge
    """
    from pilotfish.config import parse_methods
    from pilotfish.config.recipe import tuning
    from pilotfish.config.scoring import ScoreConfig
    from pilotfish.data.held_out import source_of_recipe
    from pilotfish.data.run_pool import is_run
    from pilotfish.engine.executors.launch import ExecutorConfig
    from pilotfish.scoring.audit import audit_sentences
    from pilotfish.scoring.multi_rank import merge as write_merged
    from pilotfish.scoring.score import score as flow

    folder = out_ or (recipe.data if is_run(recipe.data) else None)
    if folder is None:
        raise UsageError("`score` needs --out RUN, the folder to write to")
    if merge:
        run = write_merged(folder)
    else:
        config = ScoreConfig(
            _needed(recipe.weak, "--weak MODEL"),
            parse_methods(_needed(method, "--method METHOD")),
            parse_names(as_),
            direction=recipe.direction,
            trusted=recipe.trusted,
            max_length=recipe.max_length,
            precision=recipe.precision,
            seed=recipe.seed,
            weak_train=tuning(set_),
        )
        cheaper = _cheaper(cascade, budget, recall)
        if cheaper is not None:
            from pilotfish.selection.cascade import score_cascade

            flow = partial(score_cascade, cascade=cheaper)
        run = flow(
            folder,
            source_of_recipe(recipe),
            config,
            executor=ExecutorConfig(executor, workers, rank, world),
            force=force,
            progress=Console(quiet=quiet),
        )
    scores = run.section("scores")
    if as_json:
        emit({"run": folder, "pool": run.section("pool"), "scores": scores})
        return
    for name, facts in scores.items():
        bad = ", ".join(f"{why} {count:,}" for why, count in facts["unscorable"].items())
        out(f"{name}: {facts['scorable']:,} rows scored, unscorable: {bad or 'none'}")
        for sentence in audit_sentences(facts["cascade"]) if "cascade" in facts else ():
            out(sentence)
    first = next((name for name in scores if "cascade" in scores[name]), next(iter(scores)))
    out(f"next: pilotfish select {folder} --method '{first}' --budget {budget or '10%'}")


def _cheaper(
    cascade: str | None, budget: str | None, recall: float | None
) -> "CascadeConfig | None":
    from pilotfish.budget import parse_budget

    if cascade is None:
        if (budget, recall) != (None, None):
            raise UsageError(
                "--budget and --recall belong to --cascade, which is not given",
                hint="the budget of a selection belongs to `pilotfish select`",
            )
        return None
    if budget is None:
        raise UsageError(
            "--cascade needs --budget: it finds only the best rows",
            hint="--budget 10%, or as many rows as will be selected: --budget 500rows",
        )
    from pilotfish.scoring.cascade_rows import RECALL, CascadeConfig

    return CascadeConfig(cascade, parse_budget(budget), RECALL if recall is None else recall)


def _needed(value: str | None, option: str) -> str:
    if not value:
        raise UsageError(f"`score` needs {option}", hint="only --merge does without")
    return value
