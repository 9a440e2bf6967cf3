"""The branches of `pilotfish compare` that read what was judged before, here or elsewhere."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilotfish.cli.console import emit, out
from pilotfish.cli.gated import leave
from pilotfish.errors import UsageError

if TYPE_CHECKING:
    from pilotfish.flows.outside import Asked


def compare_results(
    given: Sequence[str],
    results: Sequence[str],
    folder: str | None,
    *,
    asked: "Asked",
    force: bool,
    as_json: bool,
) -> None:
    """Report on imported files or on finished runs; ends with the exit code of the gates."""
    if results:
        from pilotfish.flows.outside import compare_files

        report = compare_files([*results, *given], folder, asked, force=force)
    else:
        from pilotfish.flows.outside_runs import compare_runs

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
