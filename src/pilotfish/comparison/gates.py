"""Guards: an arm must not be worse than its reference by more than a margin."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pilotfish.comparison import wording
from pilotfish.comparison.arm_table import matrices
from pilotfish.comparison.case import ComparisonData
from pilotfish.config import Gate
from pilotfish.errors import GateFailed, GateInconclusive, UsageError
from pilotfish.evaluation.results import Results
from pilotfish.stats import holm
from pilotfish.stats.noninferior import NonInferior, noninferior
from pilotfish.store import Run, Store

Outcome = Literal["pass", "fail", "inconclusive"]
_TYPED = re.compile(
    r"(?P<arm>\S+)\s*>=\s*(?P<against>\S+?)\s*-\s*(?P<margin>\d*\.\d+)(?:\s+on\s+(?P<task>\S.*))?"
)
_HINT = "write ARM>=REFERENCE-MARGIN, as 'selected>=base-0.02' or 'selected>=base-0.02 on TASK'"
REFERENCE = "reference"  # what an arm of another run is called beside this one's


@dataclass(frozen=True)
class _Held:
    """One gate held against the results."""

    name: str
    gate: Gate
    found: NonInferior

    def outcome(self, p_holm: float | None, alpha: float) -> Outcome:
        """Many guards fail one by chance: a FAIL needs Holm's p too."""
        if self.found.outcome == "fail" and (p_holm or 0.0) >= alpha:
            return "inconclusive"
        return self.found.outcome


def gates(
    case: ComparisonData, guards: Mapping[str, Gate], others: Mapping[str, Results] | None = None
) -> list[dict[str, Any]]:
    """The `gates` of report.json, in the order of the guards.

    One-sided 95% bounds over seeds and items of arm minus reference, turned so that higher is
    better: pass when the lower one is above -margin, fail when the upper one is below it (and
    Holm's p over all gates below alpha: many guards fail one by chance), else inconclusive, with
    what would decide. others: results of other run folders, by the folder as the gate names it.
    UsageError for an arm, a task or a folder that is not there.
    """
    held = [_hold(case, name, gate, others or {}) for name, gate in guards.items()]
    with_p = [at for at, one in enumerate(held) if one.found.p_fail is not None]
    p = [held[at].found.p_fail or 0.0 for at in with_p]
    corrected = dict(zip(with_p, holm(p), strict=True))
    return [_told(case, one, corrected.get(at)) for at, one in enumerate(held)]


def exit_code(told: Sequence[Mapping[str, Any]]) -> int:
    """What a command ends with after its `gates`: 4 where one failed, else 5 where one is open."""
    outcomes = {gate["outcome"] for gate in told}
    if "fail" in outcomes:
        return GateFailed.exit_code
    return GateInconclusive.exit_code if "inconclusive" in outcomes else 0


def parse_gate(text: str) -> Gate:
    """`selected>=base-0.02` or `selected>=runs/a:random-0.01 on math` as a Gate.

    `>=` reads "no worse than", whichever way the metric goes. The margin needs its decimal point,
    for folders too end in -2. UsageError (exit 2) for anything else.
    """
    found = _TYPED.fullmatch(text.strip())
    if not found or not float(found["margin"]) > 0:
        raise UsageError(f"cannot read the gate '{text}'", hint=_HINT)
    return Gate(
        arm=found["arm"], against=found["against"], task=found["task"],
        margin=float(found["margin"]),
    )  # fmt: skip


def reference_folder(case_arms: Sequence[str], against: str) -> tuple[str, str] | None:
    """(run folder, arm) where a reference stands in another run; None for an arm of this one."""
    if against in case_arms or ("/" not in against and ":" not in against):
        return None
    folder, colon, arm = against.rpartition(":")
    return (folder, arm) if colon and "/" not in arm else (against, "selected")


def _hold(case: ComparisonData, name: str, gate: Gate, others: Mapping[str, Results]) -> _Held:
    results, against = dict(case.results), gate.against
    if elsewhere := reference_folder(list(results), gate.against):
        folder, arm = elsewhere
        if folder not in others or not others[folder].get(arm):
            raise UsageError(f"the gate '{name}' finds no judged arm '{arm}' in {folder}")
        results[REFERENCE], against = others[folder][arm], REFERENCE
    for each in (gate.arm, against):
        if not results.get(each):
            known = ", ".join(sorted(case.results))
            raise UsageError(f"the gate '{name}' needs the arm '{each}'; judged were {known}")
    here = replace(case, results={each: results[each] for each in (gate.arm, against)})
    if gate.task is not None:
        here = here.among(_of_task(case, name, gate.task))
    new, reference = matrices(here.results, [gate.arm, against])
    fixed = (here.fixed(gate.arm), here.fixed(against))
    found = noninferior(
        new, reference, margin=gate.margin, higher_is_better=case.higher_is_better,
        alpha=case.alpha, fixed=fixed,
    )  # fmt: skip
    return _Held(name, gate, found)


def _of_task(case: ComparisonData, name: str, task: str) -> set[str]:
    ids = {item for item, its in case.tasks.items() if its == task}
    if not ids:
        known = ", ".join(sorted(set(case.tasks.values()))) or "none"
        raise UsageError(f"the gate '{name}' guards the task '{task}'; tasks judged: {known}")
    return ids


def _told(case: ComparisonData, held: _Held, p_holm: float | None) -> dict[str, Any]:
    outcome, found, gate = held.outcome(p_holm, case.alpha), held.found, held.gate
    more = _needed(held) if outcome == "inconclusive" else ""
    return {
        "name": held.name, "arm": gate.arm, "against": gate.against, "task": gate.task,
        "metric": case.metric, "margin": gate.margin, "difference": found.difference,
        "low": found.low, "high": found.high, "outcome": outcome, "p_holm": p_holm,
        "needed": more, "sentence": _sentence(held, outcome, more),
    }  # fmt: skip


def _sentence(held: _Held, outcome: Outcome, more: str) -> str:
    found, gate = held.found, held.gate
    where = f" on {gate.task}" if gate.task else ""
    said = f"{outcome}: {gate.arm} against {gate.against}{where}"
    if found.difference is None:
        return f"{said}: no item could be judged."
    if found.low is None or found.high is None:
        return f"{said}: {found.difference:+.3f}, and one seed gives no interval. {more}"
    if outcome != found.outcome:
        return (
            f"{said}: {found.difference:+.3f} (better is above 0), at most {found.high:+.3f}, "
            f"below -{gate.margin:g}, but not enough as one of several gates (Holm's correction). "
            f"{more}"
        )
    bound = {
        "pass": f"at least {found.low:+.3f}, above -{gate.margin:g}",
        "fail": f"at most {found.high:+.3f}, below -{gate.margin:g}",
        "inconclusive": f"between {found.low:+.3f} and {found.high:+.3f}, on both sides of "
        f"-{gate.margin:g}",
    }[outcome]
    return f"{said}: {found.difference:+.3f} (better is above 0), {bound}. {more}".rstrip()


def _needed(held: _Held) -> str:
    found = held.found
    if found.outcome == "fail":
        return "More seeds, or fewer gates, would decide it."  # alone it would have failed
    if found.needed is None:
        return "It takes two seeds or more."
    return wording.advice(found.needed, seeds=min(found.estimate.seeds), items=found.estimate.items)


def check_gates(guards: Mapping[str, Gate], arms: Sequence[str], *, tasks: bool) -> None:
    """Refuse, before anything is spent, a gate whose arm, reference or task will not be there."""
    for name, gate in guards.items():
        if gate.arm not in arms:
            raise UsageError(
                f"the gate '{name}' guards the arm '{gate.arm}', which is not trained",
                hint=f"the arms are {', '.join(arms)}",
            )
        if gate.arm == gate.against:
            raise UsageError(f"the gate '{name}' holds '{gate.arm}' against itself")
        elsewhere = reference_folder(arms, gate.against)
        if elsewhere is None and gate.against not in arms:
            raise UsageError(
                f"the gate '{name}' refers to '{gate.against}', which is no arm of this run",
                hint=f"the arms are {', '.join(arms)}; another run is ./FOLDER or FOLDER:ARM",
            )
        if elsewhere and not Path(elsewhere[0]).is_dir():
            raise UsageError(f"the gate '{name}' refers to {elsewhere[0]}, which is no run folder")
        if gate.task is not None and not tasks:
            raise UsageError(
                f"the gate '{name}' guards the task '{gate.task}', and rows name no task",
                hint="set task_column to a column of the test data",
            )


def check_references(
    run: Run, guards: Mapping[str, Gate], arms: Sequence[str], tasks: Collection[str]
) -> None:
    """Refuse, before a model is trained, a gate on a task or against a run that cannot be held.

    UsageError where no test row is of the task, or where nothing of the arm was judged in the other
    run, or other rows or by another metric.
    """
    from pilotfish.evaluation import load_evaluated

    test = run.section("test")
    for name, gate in guards.items():
        if gate.task is not None and gate.task not in tasks:
            raise UsageError(
                f"the gate '{name}' guards the task '{gate.task}', and no test row is of it",
                hint=f"the tasks are {', '.join(sorted({*tasks}))}",
            )
        if (elsewhere := reference_folder(arms, gate.against)) is None:
            continue
        folder, arm = elsewhere
        other = load_evaluated(Store(Path(folder)))
        if other is None or arm not in other.results:
            raise UsageError(
                f"the gate '{name}' finds no judged arm '{arm}' in {folder}",
                hint=f"judged there: {', '.join(other.results) if other else 'nothing'}",
            )
        if (other.metric, other.test_fingerprint) != (test["metric"], test["fingerprint"]):
            raise UsageError(
                f"the gate '{name}' refers to {folder}, which was judged by another metric or on "
                "other rows",
                hint="judge both with the same --test and --metric",
            )
