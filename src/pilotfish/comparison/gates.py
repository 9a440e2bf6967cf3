"""Gates: an arm must not be worse than its reference by more than a margin."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilotfish import stats
from pilotfish.comparison.contrast import advice
from pilotfish.comparison.data import ComparisonData, matrices
from pilotfish.config import Gate
from pilotfish.errors import GateFailed, GateInconclusive, UsageError
from pilotfish.evaluation.results import Results, load_evaluated
from pilotfish.stats import NonInferior
from pilotfish.store import Run, Store

_TYPED = re.compile(
    r"(?P<arm>\S+)\s*>=\s*(?P<against>\S+?)\s*-\s*(?P<margin>\d*\.\d+)(?:\s+on\s+(?P<task>\S.*))?"
)
_HINT = "write ARM>=REFERENCE-MARGIN, as 'selected>=base-0.02' or 'selected>=base-0.02 on TASK'"
_REFERENCE = "reference"  # name of another run's arm among the results of this one


def parse_gate(text: str) -> Gate:
    """Read `selected>=base-0.02` or `selected>=runs/a:random-0.01 on math` as a Gate.

    `>=` means "no worse than", whichever way the metric goes. The margin needs its decimal point,
    because names of folders may end in -2.

    Raises:
        UsageError: The text is anything else.
    """
    found = _TYPED.fullmatch(text.strip())
    if not found or not float(found["margin"]) > 0:
        raise UsageError(f"cannot read the gate '{text}'", hint=_HINT)
    return Gate(
        arm=found["arm"],
        against=found["against"],
        task=found["task"],
        margin=float(found["margin"]),
    )


def reference_folder(arms: Sequence[str], against: str) -> tuple[str, str] | None:
    """Return (run folder, arm) of a reference in another run; None for an arm of this run.

    Args:
        arms: The arms of this run.
        against: The reference as typed: ARM, FOLDER (its arm `selected`) or FOLDER:ARM.
    """
    if against in arms or ("/" not in against and ":" not in against):
        return None
    folder, colon, arm = against.rpartition(":")
    return (folder, arm) if colon and "/" not in arm else (against, "selected")


def check_gates(guards: Mapping[str, Gate], arms: Sequence[str], *, tasks: bool) -> None:
    """Check, before any work is done, that each gate's arm, reference and task will exist.

    Args:
        guards: Name -> gate.
        arms: The arms that will be evaluated.
        tasks: Whether test rows name their task.

    Raises:
        UsageError: One of them will not exist, or an arm is its own reference.
    """
    for name, gate in guards.items():
        if gate.arm not in arms:
            raise UsageError(
                f"the gate '{name}' guards the arm '{gate.arm}', which is not trained",
                hint=f"the arms are {', '.join(arms)}",
            )
        if gate.arm == gate.against:
            raise UsageError(
                f"the gate '{name}' tests the arm '{gate.arm}' against itself",
                hint="set `against` to another arm",
            )
        elsewhere = reference_folder(arms, gate.against)
        if elsewhere is None and gate.against not in arms:
            raise UsageError(
                f"the gate '{name}' refers to '{gate.against}', which is not an arm of this run",
                hint=f"the arms are {', '.join(arms)}; another run is ./FOLDER or FOLDER:ARM",
            )
        if elsewhere and not Path(elsewhere[0]).is_dir():
            raise UsageError(
                f"the gate '{name}' refers to {elsewhere[0]}, which is not a run folder",
                hint="write FOLDER or FOLDER:ARM of a run that was evaluated",
            )
        if gate.task is not None and not tasks:
            raise UsageError(
                f"the gate '{name}' guards the task '{gate.task}', but test rows name no task",
                hint="set task_column to a column of the test data",
            )


def check_references(
    run: Run, guards: Mapping[str, Gate], arms: Sequence[str], tasks: Collection[str]
) -> None:
    """Check, before a model is trained, that gates on a task or another run can be tested.

    Args:
        run: The run, with its test data.
        guards: Name -> gate.
        arms: The arms of this run.
        tasks: The tasks of its test rows.

    Raises:
        UsageError: No test row belongs to the task; or the other run has no results of the arm, or
            used other test rows or another metric.
    """
    test = run.section("test")
    for name, gate in guards.items():
        if gate.task is not None and gate.task not in tasks:
            raise UsageError(
                f"the gate '{name}' guards the task '{gate.task}', but no test row belongs to it",
                hint=f"the tasks are {', '.join(sorted({*tasks}))}",
            )
        if elsewhere := reference_folder(arms, gate.against):
            load_reference(name, elsewhere, test["metric"], test["fingerprint"])


def load_reference(
    name: str, reference: tuple[str, str], metric: str, test_fingerprint: str
) -> Results:
    """Load the results of another run that a gate refers to.

    Args:
        name: The gate.
        reference: The other run's folder and the arm in it (see `reference_folder`).
        metric: The metric of this run.
        test_fingerprint: The fingerprint of this run's test rows.

    Raises:
        UsageError: It has no results of the arm, or they are of other test rows or another metric.
    """
    folder, arm = reference
    other = load_evaluated(Store(Path(folder))) if Path(folder).is_dir() else None
    if other is None:
        raise UsageError(
            f"the gate '{name}' refers to {folder}, which is not a run with evaluated arms",
            hint="evaluate it first: pilotfish evaluate FOLDER --test DATA",
        )
    if arm not in other.results:
        raise UsageError(
            f"the gate '{name}' finds no evaluated arm '{arm}' in {folder}",
            hint=f"evaluated there: {', '.join(other.results)}",
        )
    if (other.metric, other.test_fingerprint) != (metric, test_fingerprint):
        raise UsageError(
            f"the gate '{name}' refers to {folder}, which was evaluated with another metric or on "
            "other rows",
            hint="evaluate both with the same --test and --metric",
        )
    return other.results


def gates(
    data: ComparisonData, guards: Mapping[str, Gate], others: Mapping[str, Results] | None = None
) -> list[dict[str, Any]]:
    """Return the `gates` of report.json, in the order of the guards.

    The test is non-inferiority over seeds and items, of arm minus reference turned so that higher
    is better, with one-sided 95% bounds. Pass: the lower bound is above -margin. Fail: the upper
    bound is below -margin, and Holm's p over all gates is below alpha, because one of many gates
    fails by chance. Everything else is inconclusive, with what would decide it.

    Args:
        data: Results of this run.
        guards: Name -> gate.
        others: Results of other runs, by the folder that the gate names.

    Raises:
        UsageError: An arm or task of a gate has no results.
    """
    found = {name: _test(data, name, gate, others or {}) for name, gate in guards.items()}
    p_fail = {name: one.p_fail for name, one in found.items() if one.p_fail is not None}
    p_holm = dict(zip(p_fail, stats.holm([*p_fail.values()]), strict=True))
    lines = []
    for name, gate in guards.items():
        test, p = found[name], p_holm.get(name)
        outcome = test.outcome
        if outcome == "fail" and (p or 0.0) >= data.alpha:
            outcome = "inconclusive"
        needed = _needed(test) if outcome == "inconclusive" else ""
        lines.append(
            {
                "name": name,
                "arm": gate.arm,
                "against": gate.against,
                "task": gate.task,
                "metric": data.metric,
                "margin": gate.margin,
                "difference": test.difference,
                "low": test.low,
                "high": test.high,
                "outcome": outcome,
                "p_holm": p,
                "needed": needed,
                "sentence": _sentence(gate, test, outcome, needed),
            }
        )
    return lines


def exit_code(lines: Sequence[Mapping[str, Any]]) -> int:
    """Return the exit code of a command after `gates`: 4 if one failed, else 5 if one is open."""
    outcomes = {gate["outcome"] for gate in lines}
    if "fail" in outcomes:
        return GateFailed.exit_code
    return GateInconclusive.exit_code if "inconclusive" in outcomes else 0


def _test(
    data: ComparisonData, name: str, gate: Gate, others: Mapping[str, Results]
) -> NonInferior:
    results, against = dict(data.results), gate.against
    if elsewhere := reference_folder(list(results), gate.against):
        folder, arm = elsewhere
        if folder not in others or not others[folder].get(arm):
            raise UsageError(f"the gate '{name}' finds no evaluated arm '{arm}' in {folder}")
        results[_REFERENCE], against = others[folder][arm], _REFERENCE
    for each in (gate.arm, against):
        if not results.get(each):
            known = ", ".join(sorted(data.results))
            raise UsageError(f"the gate '{name}' needs the arm '{each}'; evaluated were {known}")
    here = replace(data, results={each: results[each] for each in (gate.arm, against)})
    if gate.task is not None:
        ids = {item for item, task in data.tasks.items() if task == gate.task}
        if not ids:
            known = ", ".join(sorted(set(data.tasks.values()))) or "none"
            raise UsageError(
                f"the gate '{name}' guards the task '{gate.task}'; tasks evaluated: {known}"
            )
        here = here.among(ids)
    new, reference = matrices(here.results, [gate.arm, against])
    return stats.noninferior(
        new,
        reference,
        margin=gate.margin,
        higher_is_better=data.higher_is_better,
        alpha=data.alpha,
        fixed=(here.fixed(gate.arm), here.fixed(against)),
    )


def _sentence(gate: Gate, test: NonInferior, outcome: str, needed: str) -> str:
    where = f" on {gate.task}" if gate.task else ""
    start = f"{outcome}: {gate.arm} against {gate.against}{where}"
    if test.difference is None:
        return f"{start}: no item could be scored."
    if test.low is None or test.high is None:
        return f"{start}: {test.difference:+.3f}, with no interval from one seed. {needed}"
    low, high, margin = f"{test.low:+.3f}", f"{test.high:+.3f}", f"-{gate.margin:g}"
    if outcome == "pass":
        bound = f"at least {low}, above {margin}"
    elif test.outcome == "inconclusive":
        bound = f"between {low} and {high}, on both sides of {margin}"
    else:
        bound = f"at most {high}, below {margin}"
    if outcome != test.outcome:
        bound += ", but not significant among several gates (Holm's correction)"
    return f"{start}: {test.difference:+.3f} (above 0 is better), {bound}. {needed}".rstrip()


def _needed(test: NonInferior) -> str:
    """Say what would decide an inconclusive gate."""
    if test.outcome == "fail":  # alone it would have failed
        return "More seeds or fewer gates would decide it."
    if test.needed is None:
        return "An interval needs two seeds or more."
    return advice(test.needed, seeds=min(test.estimate.seeds), items=test.estimate.items)
