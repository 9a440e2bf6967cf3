"""`pilotfish compare`: the arms of a recipe, of finished runs, or of results files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotfish.cli.console import Console, emit, exit_by_gates, out
from pilotfish.cli.options import RECIPES, Force, Json, Quiet, Set
from pilotfish.errors import UsageError

if TYPE_CHECKING:
    from pilotfish.experiments.external.compare_files import CompareOptions

KIND = "weak_to_strong"


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
            help="Items of a model that was evaluated elsewhere, in our format or lm-eval's; "
            "may be followed by more of them.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The metric to compare, where files hold several."),
    ] = None,
    lower_is_better: Annotated[
        bool,
        typer.Option("--lower-is-better", help="For an unknown metric: lower values are better."),
    ] = False,
    margin: Annotated[
        float | None, typer.Option(help="Differences inside +- margin count as equivalent.")
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
        typer.Option(metavar="NAME", help="The arm that the verdict is about; default: selected."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The arm to compare it with; default: random."),
    ] = None,
    out_: Annotated[
        str | None,
        typer.Option("--out", metavar="RUN", help="The run folder; default: runs/<recipe name>."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of every random draw in a recipe; default: 0.")
    ] = None,
    set_: Set = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare the arms of a recipe, of runs, or of results files.

    An ordinary recipe compares its arms over seeds, `budgets` and `methods`, as `run` does, and
    prints them all. With `experiment: weak_to_strong` it compares floor, ceiling and students: a
    weak model learns one half of the rows and labels the other half, on which strong models learn.
    PGR is the share of the gap between floor and ceiling that a student recovers.

    \b
    Examples:
      pilotfish compare recipe.yaml --set 'budgets=[5%,10%,20%]' --out runs/grid
      pilotfish compare examples/w2s_sst2.yaml --out runs/w2s
      pilotfish compare runs/a runs/b --out runs/both
      pilotfish compare --results selected:0=s0.jsonl random:0=r0.jsonl --out runs/elsewhere
    """
    arguments, folder = what or [], out_
    if results is None and len(arguments) == 1 and arguments[0].endswith(RECIPES):
        results_only = {
            "--metric": metric, "--lower-is-better": lower_is_better, "--margin": margin,
            "--gate": gate, "--arm": arm, "--against": against,
        }  # fmt: skip
        _refuse(
            results_only,
            "a recipe sets it itself",
            "set it in the recipe, or type --set NAME=VALUE",
        )
        report, folder, lines = _compare_recipe(
            arguments[0], out_, seed=seed, set_=set_, force=force, progress=Console(quiet=quiet)
        )
    else:
        _refuse(
            {"--seed": seed, "--set": set_}, "it is for recipes", "leave it out to compare results"
        )
        from pilotfish.experiments.external.compare_files import CompareOptions

        options = CompareOptions(
            metric=metric, lower_is_better=lower_is_better, margin=margin, gates=gate or [],
            arm=arm, against=against,
        )  # fmt: skip
        report = _compare_results(arguments, results or [], out_, options, force=force)
        lines = verdict_lines(report)
    if as_json:
        emit(report)
    else:
        for line in lines:
            out(line)
        if folder:
            out(f"report: {folder}/report.html")
    exit_by_gates(report)


def _refuse(options: Mapping[str, Any], why: str, hint: str) -> None:
    """Raise UsageError for an option that would have no effect."""
    for name, value in options.items():
        if value not in (None, False, []):
            raise UsageError(f"`compare` cannot use {name} here: {why}", hint=hint)


def _compare_recipe(
    recipe: str,
    folder: str | None,
    *,
    seed: int | None,
    set_: list[str] | None,
    force: bool,
    progress: Console,
) -> tuple[dict[str, Any], str, list[str]]:
    """Run what a recipe describes; returns the report, its folder and the lines to print."""
    from pilotfish.config import read_recipe

    settings = read_recipe(recipe)
    kind = settings.get("experiment")
    if kind not in (None, KIND):
        raise UsageError(
            f"no experiment is called '{kind}'",
            hint=f"take experiment: {KIND}, or leave it out to compare arms, budgets and methods",
        )
    if seed is not None:
        settings["seed"] = seed
    where = folder or settings.get("out") or f"runs/{Path(recipe).stem}"
    if kind == KIND:
        from pilotfish.config import make_weak_to_strong
        from pilotfish.weak_to_strong.run import run_weak_to_strong

        made = make_weak_to_strong(settings, set_)
        found = run_weak_to_strong(made, where, force=force, progress=progress)
        report, lines = {KIND: found}, pgr_table(found)
    else:
        from pilotfish.config import make_recipe
        from pilotfish.experiments.run import run_experiment

        run = run_experiment(make_recipe(settings, set_), where, force=force, progress=progress)
        report = run.store.read_json("report.json") or {}
        lines = grid_table(report)
    return {"run": where, "report": f"{where}/report.html", **report}, where, lines


def _compare_results(
    arguments: Sequence[str],
    results: Sequence[str],
    folder: str | None,
    options: "CompareOptions",
    *,
    force: bool,
) -> dict[str, Any]:
    """Report on imported files, or on finished runs."""
    if results:
        from pilotfish.experiments.external.compare_files import compare_files

        return compare_files([*results, *arguments], folder, options, force=force)
    if len(arguments) < 2:
        seen = f"'{arguments[0]}' alone is" if arguments else "nothing was named:"
        raise UsageError(
            f"{seen} nothing to compare",
            hint="give one recipe (.yaml), two run folders, or --results ARM:SEED=FILE ..",
        )
    from pilotfish.experiments.external.compare_runs import compare_runs

    return compare_runs(arguments, folder, options, force=force)


def verdict_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the verdict, a table of arms and the gates, as lines of text."""
    arms = report["arms"]
    width = max(len(arm["name"]) for arm in arms)
    lines = [report["verdict"]["sentence"]]
    for arm in arms:
        count = len(arm["seeds"])
        seeds = f"{count} seed{'' if count == 1 else 's'}"
        lines.append(f"{arm['name']:<{width}}  {seeds}  {_estimate(arm, digits=4)}")
    lines += [f"gate {gate['name']}: {gate['sentence']}" for gate in report.get("gates") or ()]
    return [*lines, *(f"warning: {text}" for text in report["warnings"])]


def grid_table(report: Mapping[str, Any]) -> list[str]:
    """Return the verdict, every arm with its rows, steps and metric, and the recommendation."""
    arms = [arm for arm in report["arms"] if arm["mean"] is not None]
    width = max([len(arm["name"]) for arm in arms] + [3])
    heads = f"{'arm':<{width}}  {'rows':>7}  {'tokens':>9}  {'steps':>6}  {'seeds':>5}"
    metric = report["verdict"]["metric"]
    lines = [report["verdict"]["sentence"], "", f"{heads}  {metric} [95%]"]
    for arm in arms:
        counts = (arm["rows"], arm["tokens"], arm["steps"], len(arm["seeds"]))
        cells = "  ".join(
            f"{'-' if n is None else format(n, ','):>{w}}"
            for n, w in zip(counts, (7, 9, 6, 5), strict=True)
        )
        lines.append(f"{arm['name']:<{width}}  {cells}  {_estimate(arm)}")
    for name in ("chosen", "recommendation", "break_even"):
        if report.get(name):
            lines.append(report[name]["sentence"])
    lines += [f"gate {gate['name']}: {gate['sentence']}" for gate in report.get("gates", ())]
    return [*lines, *(f"warning: {text}" for text in report["warnings"])]


def pgr_table(found: Mapping[str, Any]) -> list[str]:
    """Return floor, ceiling and arms with their PGR (arXiv:2312.09390), as lines of text."""
    metric, seeds, items = found["metric"], found["seeds"], found["items"]
    lines = [f"{metric} on {items:,} rows, {seeds} seed{'' if seeds == 1 else 's'}, 95% intervals"]
    ends = [("weak (floor)", found["weak"]), ("ceiling", found["ceiling"])]
    width = max(len(name) for name in [*(arm["name"] for arm in found["arms"]), "weak (floor)"])
    lines.append(f"{'arm':<{width}}  {metric:<22}  PGR")
    lines += [f"{name:<{width}}  {_estimate(end)}" for name, end in ends]
    for arm in found["arms"]:
        pgr = arm["pgr"]
        shown = _interval(pgr["raw"], pgr["low"], pgr["high"], f"undefined ({pgr['why']})")
        lines.append(f"{arm['name']:<{width}}  {_estimate(arm):<22}  {shown}")
    return [*lines, *(f"note: {text}" for text in found["alarms"])]


def _estimate(arm: Mapping[str, Any], digits: int = 3) -> str:
    return _interval(arm["mean"], arm["low"], arm["high"], "none could be evaluated", digits)


def _interval(
    value: float | None, low: float | None, high: float | None, missing: str, digits: int = 3
) -> str:
    if value is None:
        return missing
    if low is None or high is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
