"""`pilotfish evaluate`: every trained model answers the same held-out rows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotfish.cli.compare import verdict_lines
from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import (
    FieldOption,
    Force,
    Json,
    Quiet,
    RunFolder,
    parse_names,
    recipe_options,
)
from pilotfish.errors import UsageError

if TYPE_CHECKING:
    from pilotfish.config import Recipe


@recipe_options(
    FieldOption("test", help="Held-out rows to evaluate on; default: those of the run."),
    FieldOption("limit", help="Read only the first N test records."),
    "max_bad_rate",
    "map",
    "trust_remote_code",
)
def evaluate(
    run: RunFolder,
    recipe: "Recipe",
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="exact_match, accuracy or loss; default: the run's, or what fits the rows.",
        ),
    ] = None,
    arm: Annotated[str | None, typer.Option(metavar="NAME,..", help="Only these arms.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Evaluate this model, trained elsewhere; needs --items."
        ),
    ] = None,
    items: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="File for the results of --model, one line per item."),
    ] = None,
    harness: Annotated[
        str | None,
        typer.Option(
            metavar="TASK,..",
            help="Evaluate by lm-evaluation-harness on these tasks; the results go to --out.",
        ),
    ] = None,
    include_path: Annotated[
        str | None, typer.Option(metavar="DIR", help="A folder with your own lm-eval tasks.")
    ] = None,
    out_: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder for the results of --harness; default: RUN-harness.",
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate trained models on the same held-out rows.

    Writes judge/<arm>/seed-<n>.jsonl, one line per item, and the report. Test rows are stored in
    the run, and need to be given once only.

    \b
    Examples:
      pilotfish evaluate RUN --test test.jsonl --metric exact_match
      pilotfish evaluate RUN --model out/selected-seed-0 --items selected-0.jsonl
      pilotfish evaluate RUN --harness arc_easy --metric acc
    """
    from pilotfish.config.data import Source

    progress, test = Console(quiet=quiet), None
    if recipe.test:
        test = Source(recipe.test, recipe.map, recipe.limit, recipe.max_bad_rate)
    if model:
        if not items:
            raise UsageError(
                "the results of --model go to a file, and none was named",
                hint=f"pilotfish evaluate {run} --model {model} --items FILE.jsonl",
            )
        from pilotfish.experiments.external.evaluate_model import evaluate_model_folder

        result = evaluate_model_folder(run, model, items, test=test, metric=metric, force=force)
        lines = _model_lines(result)
    elif harness:
        from pilotfish.experiments.external.lm_eval import LmEvalConfig, evaluate_with_lm_eval

        to = out_ or f"{run.rstrip('/')}-harness"
        tasks = LmEvalConfig(parse_names(harness), metric, recipe.limit, include_path)
        report = evaluate_with_lm_eval(
            run, tasks, to=to, arms=parse_names(arm), force=force, progress=progress
        )
        result = {"run": to, **report}
        lines = [*verdict_lines(report), f"report: {to}/report.html"]
    else:
        from pilotfish.experiments.evaluate import evaluate_run

        rows = evaluate_run(
            run, test=test, metric=metric, arms=parse_names(arm), force=force, progress=progress
        )
        result = {"run": run, "arms": rows}
        lines = [
            f"{x['name']}: {x['metric']} {x['mean']:.4f} ({len(x['seeds'])} seeds)" for x in rows
        ]
    if as_json:
        emit(result)
        return
    for line in lines:
        out(line)


def _model_lines(result: Mapping[str, Any]) -> list[str]:
    mean = "none could be evaluated" if result["mean"] is None else f"{result['mean']:.4f}"
    return [
        f"{result['model']}: {result['metric']} {mean} ({result['rows']:,} rows)",
        f"next: pilotfish compare --results ARM:SEED={result['items']} ..",
    ]
