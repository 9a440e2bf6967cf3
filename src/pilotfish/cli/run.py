"""`pilotfish run`: raw rows to report in one command, from a recipe or from options."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pilotfish.cli.console import Console, emit, leave, out
from pilotfish.cli.options import (
    BUDGET_HELP,
    Config,
    Direction,
    Force,
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
from pilotfish.errors import UsageError


def run(
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
    budget: Annotated[
        str,
        typer.Option(
            metavar="BUDGET[,..]", help=f"{BUDGET_HELP} Of several the first has the verdict."
        ),
    ] = "10%",
    method: MethodOption = None,
    direction: Direction = None,
    trusted: Trusted = None,
    test: Test = None,
    metric: Metric = None,
    evidence: Annotated[
        str,
        typer.Option(
            metavar="LEVEL",
            help="none: one model, no verdict. quick: base, random, selected. full: every arm.",
        ),
    ] = "quick",
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, max=1000, help="Seeds of every arm; default: 1 (none), 2 (quick), 3 (full)."
        ),
    ] = None,
    out_: Annotated[
        str | None,
        typer.Option("--out", metavar="RUN", help="The run folder; default: runs/<data name>."),
    ] = None,
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
    seed: Annotated[
        int, typer.Option(help="Shifts everything drawn: what is held out, and each seed 0 to N-1.")
    ] = 0,
    set_: Set = None,
    force: Force = False,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Go from raw rows to the report: score, select, train, judge.

    The price of every evidence level is printed before anything is trained. The same command again
    continues where it stopped. A claim needs --evidence full with 3 seeds; anything less is told as
    an indication. Options win over the recipe.

    \b
    Examples:
      pilotfish run rows.jsonl --weak SMALL --strong LARGE --budget 10%
      pilotfish run rows.jsonl --weak SMALL --strong LARGE --evidence full --test test.jsonl
      pilotfish run recipe.yaml --set train.max_steps=200 --out runs/short
    """
    from pilotfish.config import make_recipe, read_recipe
    from pilotfish.experiments.run import run_experiment

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
        "seed": seed, "out": out_,
    }  # fmt: skip
    settings |= several_budgets(given(context, typed, from_recipe=bool(settings)))
    for name in ("weak", "strong"):
        if not settings.get(name):
            raise UsageError(f"`run` needs --{name} MODEL", hint="pilotfish run --help")
    recipe = make_recipe(settings, set_)
    folder = recipe.out or default_out(recipe.data)
    done = run_experiment(recipe, folder, force=force, progress=Console(quiet=quiet))
    told = done.store.read_json("report.json") or {}
    if as_json:
        verdict: dict[str, Any] = {key: told[key] for key in ("verdict", "gates") if key in told}
        emit({"run": folder, "report": f"{folder}/report.html", **verdict})
    else:
        out(told["verdict"]["sentence"])
        out(f"report: {folder}/report.html")
    leave(told)


def several_budgets(typed: dict[str, Any]) -> dict[str, Any]:
    """`--budget 5%,10%` as a sweep; the verdict is on the first."""
    several = [text.strip() for text in typed.get("budget", "").split(",") if text.strip()]
    return {**typed, "budget": several[0], "budgets": several} if len(several) > 1 else typed


def default_out(data: str) -> str:
    """`runs/<name of the data>` below the current folder."""
    name = Path(data.rstrip("/")).name.split(".")[0] or "run"
    return f"runs/{name.replace('*', 'all')}"
