"""`pilotfish judge`: every trained model answers the same held-out rows."""

from typing import Annotated

import typer

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
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let a run's trained models answer the same held-out rows.

    Writes judge/<arm>/seed-<n>.jsonl, one line per item, and the report. Test rows given once are
    kept with the run.

    \b
    Example:
      pilotfish judge RUN --test test.jsonl --metric exact_match
    """
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
