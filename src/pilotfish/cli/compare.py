"""`pilotfish compare`: arms from a recipe, from finished runs, or from files judged elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import Force, Json, Quiet, Set
from pilotfish.errors import UsageError

RECIPES = (".yaml", ".yml")


def compare(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE.yaml | RUN..]", help="One recipe, or the run folders to join."
        ),
    ] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARM:SEED=FILE",
            help="Judged items of a model trained elsewhere, ours or lm-eval's; more of the same "
            "kind may follow.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which metric, where the files hold several."),
    ] = None,
    lower_is_better: Annotated[
        bool,
        typer.Option("--lower-is-better", help="Less is better, for a metric not known here."),
    ] = False,
    margin: Annotated[
        float | None, typer.Option(help="Differences inside +- this count as equivalent.")
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="A non-inferiority gate, as safe(arm=selected, against=base, margin=0.02); may "
            "be repeated.",
        ),
    ] = None,
    arm: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The arm the verdict is on; default: selected."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its rival; default: random.")
    ] = None,
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
    """Compare the arms of a recipe, of runs, or of judged files.

    A recipe with `experiment: weak_to_strong` compares floor, ceiling and students of a weak
    teacher: a weak model learns one half of the rows and labels the other half, on which strong
    models learn. PGR is the share of the gap between floor and ceiling that a student recovers.

    \b
    Examples:
      pilotfish compare examples/w2s_sst2.yaml --out runs/w2s
      pilotfish compare runs/a runs/b --out runs/both
      pilotfish compare --results selected:0=s0.jsonl random:0=r0.jsonl --out runs/elsewhere
    """
    given = what or []
    if results is None and len(given) == 1 and given[0].endswith(RECIPES):
        compare_recipe(
            given[0], out_, seed=seed, set_=set_, force=force, as_json=as_json, quiet=quiet
        )
        return
    from pilotfish.cli.compare_results import compare_results
    from pilotfish.flows.outside import Asked

    asked = Asked(
        metric=metric, lower_is_better=lower_is_better, margin=margin, gates=gate or [],
        arm=arm, against=against,
    )  # fmt: skip
    compare_results(given, results or [], out_, asked=asked, force=force, as_json=as_json)


def compare_recipe(
    recipe: str,
    out_: str | None,
    *,
    seed: int | None,
    set_: list[str] | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """The recipe branch: what it asks for is trained, judged and reported."""
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
