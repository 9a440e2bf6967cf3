"""Differences task by task, and their mean over tasks."""

from collections.abc import Mapping
from typing import Any

from pilotfish import stats
from pilotfish.comparison.case import ComparisonData
from pilotfish.comparison.contrast import Contrast, Outcome
from pilotfish.comparison.verdict import is_settled
from pilotfish.stats import holm


def tasks(case: ComparisonData, arm: str, against: str) -> list[dict[str, Any]]:
    """The `tasks` of report.json: arm minus against on the items of each task, by name.

    Each: {task, items, arm, against, difference, low, high, p, p_holm, outcome}; better and worse
    need Holm's p over the tasks below alpha. [] where items name fewer than two tasks.
    """
    if len(by_task := _by_task(case)) < 2 or not case.has(arm, against):
        return []
    found = {task: case.among(ids).contrast(arm, against) for task, ids in by_task.items()}
    claims = [task for task, said in found.items() if said.found.p is not None]
    claims = claims if case.is_claim(arm, against) else []
    p = dict(zip(claims, holm([found[task].found.p or 0.0 for task in claims]), strict=True))
    return [_told(case, task, said, p.get(task)) for task, said in found.items()]


def macro(case: ComparisonData, arm: str, against: str) -> dict[str, Any] | None:
    """The `macro` of report.json: the mean of the tasks' differences, every task counting alike."""
    if len(by_task := _by_task(case)) < 2 or not case.has(arm, against):
        return None
    pairs = []
    for ids in by_task.values():
        here = case.among(ids)
        pairs.append((here.values(arm), here.values(against)))
    found = stats.macro(pairs, alpha=case.alpha, fixed=(case.fixed(arm), case.fixed(against)))
    return {
        "arm": arm, "against": against, "difference": found.value, "low": found.low,
        "high": found.high,
    }  # fmt: skip


def _by_task(case: ComparisonData) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for item in case.items():
        if item in case.tasks:
            found.setdefault(case.tasks[item], set()).add(item)
    return dict(sorted(found.items()))


def _told(case: ComparisonData, task: str, said: Contrast, p_holm: float | None) -> dict[str, Any]:
    outcome: Outcome = "not_tested" if p_holm is None else is_settled(said, case.margin)
    if p_holm is not None and outcome in ("better", "worse") and p_holm >= case.alpha:
        outcome = "undecided"
    found = said.found
    return {
        "task": task, "items": found.items, "arm": said.arm, "against": said.against,
        "difference": found.value, "low": found.low, "high": found.high, "p": found.p,
        "p_holm": p_holm, "outcome": outcome,
    }  # fmt: skip
