"""`pilotfish judge`: every trained model answers the same held-out rows."""

from typing import Annotated

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.judge_elsewhere import judge_by_harness, judge_one_model
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
    from pilotfish.flows.stages import judge_stage

    rows = judge_stage(
        run, test=test, metric=metric, arms=parse_names(arm), mapping=parse_map(map_),
        limit=limit, max_bad_rate=max_bad_rate, force=force, progress=Console(quiet=quiet),
    )  # fmt: skip
    if as_json:
        emit({"run": run, "arms": rows})
        return
    for row in rows:
        out(f"{row['name']}: {row['metric']} {row['mean']:.4f} ({len(row['seeds'])} seeds)")
