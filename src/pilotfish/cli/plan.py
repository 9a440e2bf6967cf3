"""`pilotfish plan`: the steps of a run and what each takes, before anything is spent."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import (
    BUDGET_HELP,
    Config,
    Direction,
    Json,
    Limit,
    Map,
    MaxBadRate,
    MaxLength,
    MethodOption,
    Metric,
    Precision,
    Quiet,
    Revision,
    Set,
    Split,
    Test,
    Trusted,
    TrustRemoteCode,
    given,
    parse_map,
)  # fmt: skip
from pilotfish.cli.run import several_budgets
from pilotfish.errors import UsageError


def plan(
    context: typer.Context,
    data: Annotated[str, typer.Argument(metavar="RECIPE.yaml|DATA", help="A recipe, or rows.")],
    weak: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The small model that measures: a folder or hub id."),
    ] = None,
    strong: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The model that learns: a folder or hub id."),
    ] = None,
    budget: Annotated[str, typer.Option(metavar="BUDGET", help=BUDGET_HELP)] = "10%",
    method: MethodOption = None,
    direction: Direction = None,
    trusted: Trusted = None,
    test: Test = None,
    metric: Metric = None,
    evidence: Annotated[
        str, typer.Option(metavar="LEVEL", help="none, quick or full; all are priced.")
    ] = "quick",
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, max=1000, help="Seeds of every arm; default: 1 (none), 2 (quick), 3 (full)."
        ),
    ] = None,
    per_hour: Annotated[
        float | None,
        typer.Option("--per-hour", min=0, help="What an hour of this machine costs, as 2.50."),
    ] = None,
    no_probe: Annotated[
        bool,
        typer.Option("--no-probe", help="Load no model: FLOPs over measured speed, and rough."),
    ] = False,
    probe_seconds: Annotated[
        float,
        typer.Option("--probe-seconds", min=1, help="What the probe may take in all."),
    ] = 20.0,
    limit: Limit = None,
    max_bad_rate: MaxBadRate = 0.01,
    map_: Map = None,
    dataset_config: Config = None,
    split: Split = None,
    revision: Revision = None,
    max_length: MaxLength = None,
    precision: Precision = "auto",
    allow_short: Annotated[
        bool,
        typer.Option("--allow-short", help="Take fewer rows than asked where fewer may be picked."),
    ] = False,
    seed: Annotated[int, typer.Option(help="As of the run.")] = 0,
    set_: Set = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Price a run before it starts.

    Says the numbered steps with rows, tokens, FLOPs, memory, time and money of each, what a
    selection must save to pay off, and what every level of evidence costs. Nothing is trained and
    no run folder is written. A short probe runs a few batches, steps and answers on this machine,
    so plan where you will run. Options win over the recipe.

    \b
    Examples:
      pilotfish plan rows.jsonl --weak SMALL --strong LARGE --budget 10%
      pilotfish plan recipe.yaml --per-hour 2.50
      pilotfish plan rows.jsonl --weak SMALL --strong LARGE --no-probe --json
    """
    from pilotfish.config import make_recipe, read_recipe
    from pilotfish.planning.plan import plan as flow
    from pilotfish.planning.text import lines

    settings: dict[str, Any] = {}
    if Path(data).suffix in (".yaml", ".yml"):
        settings = read_recipe(data)
    typed = {
        "data": data, "weak": weak, "strong": strong, "budget": budget, "method": method,
        "direction": direction, "trusted": trusted, "test": test, "metric": metric,
        "evidence": evidence, "seeds": seeds, "limit": limit, "max_bad_rate": max_bad_rate,
        "map": parse_map(map_), "dataset_config": dataset_config, "split": split,
        "revision": revision, "max_length": max_length, "precision": precision,
        "allow_short": allow_short, "trust_remote_code": trust_remote_code,
        "seed": seed,
    }  # fmt: skip
    settings |= several_budgets(given(context, typed, from_recipe=bool(settings)))
    for name in ("weak", "strong"):
        if not settings.get(name):
            raise UsageError(f"`plan` needs --{name} MODEL", hint="pilotfish plan --help")
    found = flow(
        make_recipe(settings, set_), per_hour=per_hour, probing=not no_probe,
        seconds=probe_seconds, progress=Console(quiet=quiet),
    )  # fmt: skip
    if as_json:
        emit(found.as_dict())
        return
    for line in lines(found):
        out(line)
