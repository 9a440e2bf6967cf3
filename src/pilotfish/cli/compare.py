"""`pilotfish compare`: a weak-to-strong experiment from a recipe, in one command."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import Force, Json, Quiet, Set
from pilotfish.errors import UsageError


def compare(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE.yaml", help="A recipe with experiment: weak_to_strong."),
    ],
    out_: Annotated[
        str | None,
        typer.Option("--out", metavar="RUN", help="The run folder; default: runs/<recipe name>."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="What the split and every draw start from; default: 0.")
    ] = None,
    set_: Set = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare floor, ceiling and students of a weak teacher.

    A weak model learns one half of the rows and labels the other half, on which strong models
    learn: from its labels, from the true ones, and by every loss and filter that the recipe names.
    PGR is the share of the gap between floor and ceiling that a student recovers.

    pilotfish compare examples/w2s_sst2.yaml --out runs/w2s
    """
    from pilotfish.config import make_weak_to_strong
    from pilotfish.flows.w2s import weak_to_strong

    settings = read_experiment(recipe)
    if seed is not None:
        settings["seed"] = seed
    made = make_weak_to_strong(settings, set_)
    folder = out_ or made.out or f"runs/{Path(recipe).stem}"
    found = weak_to_strong(made, folder, force=force, progress=Console(quiet=quiet))
    if as_json:
        emit({"run": folder, "report": f"{folder}/report.html", "weak_to_strong": found})
        return
    for line in table(found):
        out(line)
    out(f"report: {folder}/report.html")


def read_experiment(path: str) -> dict[str, Any]:
    """The settings of an experiment's recipe; UsageError for anything else."""
    from pilotfish.config import read_recipe

    hint = (
        "compare takes a recipe with `experiment: weak_to_strong`, such as examples/w2s_sst2.yaml"
    )
    if not path.endswith((".yaml", ".yml")):
        raise UsageError(
            f"'{path}' is no recipe: comparing finished runs or judged files is not possible yet",
            hint=hint,
        )
    settings = read_recipe(path)
    kind = settings.get("experiment")
    if kind is None:
        raise UsageError(f"{path} names no experiment", hint=f"{hint}; for others: pilotfish run")
    if kind != "weak_to_strong":
        raise UsageError(f"no experiment is called '{kind}'", hint=hint)
    return settings


def table(found: Mapping[str, Any]) -> list[str]:
    """Floor, ceiling and arms with their PGR, as lines of text."""
    metric, seeds, items = found["metric"], found["seeds"], found["items"]
    lines = [f"{metric} on {items:,} rows, {seeds} seed{'' if seeds == 1 else 's'}, 95% intervals"]
    rungs = [("weak (floor)", found["weak"]), ("ceiling", found["ceiling"])]
    width = max(len(name) for name in [*(arm["name"] for arm in found["arms"]), "weak (floor)"])
    head = f"{'arm':<{width}}  {metric:<22}  PGR"
    lines += [head, *(f"{name:<{width}}  {_estimate(rung)}" for name, rung in rungs)]
    for arm in found["arms"]:
        lines.append(f"{arm['name']:<{width}}  {_estimate(arm):<22}  {_pgr(arm['pgr'])}")
    return [*lines, *(f"note: {text}" for text in found["alarms"])]


def _estimate(one: Mapping[str, Any]) -> str:
    return _interval(one["mean"], one["low"], one["high"], "none could be judged")


def _pgr(one: Mapping[str, Any]) -> str:
    return _interval(one["raw"], one["low"], one["high"], f"undefined ({one['why']})")


def _interval(value: float | None, low: float | None, high: float | None, none: str) -> str:
    if value is None:
        return none
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
