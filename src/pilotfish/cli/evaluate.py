"""`pilotfish judge`: every trained model answers the same held-out rows."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from pilotfish.cli.compare import lines
from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import (
    Force,
    Json,
    Limit,
    Map,
    MaxBadRate,
    Metric,
    Quiet,
    RunFolder,
    Test,
    TrustRemoteCode,
    parse_map,
    parse_names,
)
from pilotfish.errors import UsageError


def judge_by_harness(
    run: str,
    tasks: Sequence[str],
    *,
    folder: str | None,
    include_path: str | None,
    metric: str | None,
    arms: Sequence[str],
    limit: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """lm-evaluation-harness asks; the report lies in a folder beside the run."""
    from pilotfish.experiments.external import lm_eval

    to = folder or f"{run.rstrip('/')}-harness"
    report = lm_eval.evaluate_with_lm_eval(
        run, tasks, to=to, include_path=include_path, metric=metric, arms=arms, limit=limit,
        force=force, progress=Console(quiet=quiet),
    )  # fmt: skip
    if as_json:
        emit({"run": to, **report})
        return
    for line in lines(report):
        out(line)
    out(f"report: {to}/report.html")


def judge_one_model(
    run: str, model: str, items: str | None, *, as_json: bool, **options: Any
) -> None:
    """A model trained elsewhere answers the run's test rows; its items go to a file."""
    from pilotfish.experiments.external.evaluate_model import evaluate_model_folder

    if not items:
        raise UsageError(
            "a model from elsewhere is judged into a file, and none was named",
            hint=f"pilotfish judge {run} --model {model} --items FILE.jsonl",
        )
    told = evaluate_model_folder(run, model, items, **options)
    if as_json:
        emit(told)
        return
    mean = "none could be judged" if told["mean"] is None else f"{told['mean']:.4f}"
    out(f"{told['model']}: {told['metric']} {mean} ({told['rows']:,} rows)")
    out(f"next: pilotfish compare --results ARM:SEED={told['items']} ..")


def judge(
    run: RunFolder,
    test: Test = None,
    metric: Metric = None,
    arm: Annotated[str | None, typer.Option(metavar="NAME,..", help="Only these arms.")] = None,
    limit: Limit = None,
    max_bad_rate: MaxBadRate = 0.01,
    map_: Map = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Judge this model, trained elsewhere, into --items."),
    ] = None,
    items: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where the items of --model go.")
    ] = None,
    harness: Annotated[
        str | None,
        typer.Option(metavar="TASK,..", help="Let lm-evaluation-harness ask, into --out."),
    ] = None,
    include_path: Annotated[
        str | None, typer.Option(metavar="DIR", help="A folder with lm-eval tasks of your own.")
    ] = None,
    out_: Annotated[
        str | None,
        typer.Option("--out", metavar="DIR", help="For --harness; default: RUN-harness."),
    ] = None,
    force: Force = False,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let a run's trained models answer the same held-out rows.

    Writes judge/<arm>/seed-<n>.jsonl, one line per item, and the report. Test rows given once are
    kept with the run.

    \b
    Examples:
      pilotfish judge RUN --test test.jsonl --metric exact_match
      pilotfish judge RUN --model out/selected-seed-0 --items selected-0.jsonl
      pilotfish judge RUN --harness arc_easy --metric acc
    """
    if model:
        judge_one_model(
            run, model, items, as_json=as_json, test=test, metric=metric,
            mapping=parse_map(map_), limit=limit, max_bad_rate=max_bad_rate, force=force,
        )  # fmt: skip
        return
    if harness:
        judge_by_harness(
            run, parse_names(harness), folder=out_, include_path=include_path, metric=metric,
            arms=parse_names(arm), limit=limit, force=force, as_json=as_json, quiet=quiet,
        )  # fmt: skip
        return
    from pilotfish.experiments.evaluate import evaluate_run

    rows = evaluate_run(
        run, test=test, metric=metric, arms=parse_names(arm), mapping=parse_map(map_),
        limit=limit, max_bad_rate=max_bad_rate, force=force, progress=Console(quiet=quiet),
    )  # fmt: skip
    if as_json:
        emit({"run": run, "arms": rows})
        return
    for row in rows:
        out(f"{row['name']}: {row['metric']} {row['mean']:.4f} ({len(row['seeds'])} seeds)")
