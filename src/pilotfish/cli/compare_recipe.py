"""The recipe branch of `pilotfish compare`: a grid of arms, or a weak-to-strong experiment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.gated import leave
from pilotfish.errors import UsageError

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
    from pilotfish.flows.w2s import weak_to_strong

    made = make_weak_to_strong(settings, set_)
    found = weak_to_strong(made, where, force=force, progress=progress)
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
    from pilotfish.flows.experiment import run_experiment

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
