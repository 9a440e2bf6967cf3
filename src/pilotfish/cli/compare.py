"""`pilotfish compare`: arms from a recipe, from finished runs, or from files judged elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotfish.cli.console import Console, emit, leave, out
from pilotfish.cli.options import Force, Json, Quiet, Set
from pilotfish.errors import UsageError

if TYPE_CHECKING:
    from pilotfish.experiments.external.compare_files import CompareOptions

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
    given = what or []
    if results is None and len(given) == 1 and given[0].endswith(RECIPES):
        pass

        judging = {
            "--metric": metric, "--lower-is-better": lower_is_better, "--margin": margin,
            "--gate": gate, "--arm": arm, "--against": against,
        }  # fmt: skip
        _without(judging, "a recipe says that itself", "write it there, or type --set NAME=VALUE")
        compare_recipe(
            given[0], out_, seed=seed, set_=set_, force=force, as_json=as_json, quiet=quiet
        )
        return
    settings = {"--seed": seed, "--set": set_}
    _without(settings, "it is for recipes", "what was judged already stays as it is")
    pass
    from pilotfish.experiments.external.compare_files import CompareOptions

    asked = CompareOptions(
        metric=metric, lower_is_better=lower_is_better, margin=margin, gates=gate or [],
        arm=arm, against=against,
    )  # fmt: skip
    compare_results(given, results or [], out_, asked=asked, force=force, as_json=as_json)


def _without(options: Mapping[str, Any], why: str, hint: str) -> None:
    """UsageError for an option that would be read by nothing."""
    for name, value in options.items():
        if value not in (None, False, []):
            raise UsageError(f"`compare` cannot heed {name} here: {why}", hint=hint)


KIND = "weak_to_strong"


def compare_recipe(
    recipe: str,
    folder: str | None,
    *,
    seed: int | None,
    set_: list[str] | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train, judge and report what a recipe asks for; ends with the exit code of its gates."""
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
    compare = _weak_to_strong if kind == KIND else _grid
    report, lines = compare(settings, set_, where, force=force, progress=Console(quiet=quiet))
    if as_json:
        emit({"run": where, "report": f"{where}/report.html", **report})
    else:
        for line in lines:
            out(line)
        out(f"report: {where}/report.html")
    leave(report)


def _weak_to_strong(
    settings: dict[str, Any],
    set_: list[str] | None,
    where: str,
    *,
    force: bool,
    progress: Console,
) -> tuple[dict[str, Any], list[str]]:
    from pilotfish.config import make_weak_to_strong
    from pilotfish.weak_to_strong.run import run_weak_to_strong

    made = make_weak_to_strong(settings, set_)
    found = run_weak_to_strong(made, where, force=force, progress=progress)
    return {KIND: found}, table(found)


def _grid(
    settings: dict[str, Any],
    set_: list[str] | None,
    where: str,
    *,
    force: bool,
    progress: Console,
) -> tuple[dict[str, Any], list[str]]:
    from pilotfish.config import make_recipe
    from pilotfish.experiments.run import run_experiment

    run = run_experiment(make_recipe(settings, set_), where, force=force, progress=progress)
    report = run.store.read_json("report.json") or {}
    return report, grid_table(report)


def grid_table(report: Mapping[str, Any]) -> list[str]:
    """Every arm with what it learnt and reached, the verdict first, then what to do."""
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


def compare_results(
    given: Sequence[str],
    results: Sequence[str],
    folder: str | None,
    *,
    asked: "CompareOptions",
    force: bool,
    as_json: bool,
) -> None:
    """Report on imported files or on finished runs; ends with the exit code of the gates."""
    if results:
        from pilotfish.experiments.external.compare_files import compare_files

        report = compare_files([*results, *given], folder, asked, force=force)
    else:
        from pilotfish.experiments.external.compare_runs import compare_runs

        report = compare_runs(_runs(given), folder, asked, force=force)
    if as_json:
        emit(report)
    else:
        for line in lines(report):
            out(line)
        if folder:
            out(f"report: {folder}/report.html")
    leave(report)


def _runs(given: Sequence[str]) -> Sequence[str]:
    if len(given) < 2:
        seen = f"'{given[0]}' alone is" if given else "nothing was named:"
        raise UsageError(
            f"{seen} nothing to compare",
            hint="give one recipe (.yaml), two run folders, or --results ARM:SEED=FILE ..",
        )
    return given


def lines(report: Mapping[str, Any]) -> list[str]:
    """The verdict, a table of arms and the gates, as lines of text."""
    arms = report["arms"]
    width = max(len(arm["name"]) for arm in arms)
    told = [report["verdict"]["sentence"]]
    told += [f"{arm['name']:<{width}}  {_seeds(arm)}  {_mean(arm)}" for arm in arms]
    told += [f"gate {gate['name']}: {gate['sentence']}" for gate in report.get("gates") or ()]
    return [*told, *(f"warning: {text}" for text in report["warnings"])]


def _seeds(arm: Mapping[str, Any]) -> str:
    count = len(arm["seeds"])
    return f"{count} seed{'' if count == 1 else 's'}"


def _mean(arm: Mapping[str, Any]) -> str:
    if arm["mean"] is None:
        return "none could be judged"
    if arm["low"] is None or arm["high"] is None:
        return f"{arm['mean']:.4f}"
    return f"{arm['mean']:.4f} [{arm['low']:.4f}, {arm['high']:.4f}]"
