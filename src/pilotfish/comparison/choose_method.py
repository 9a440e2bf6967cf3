"""Which method the verdict is on: one named beforehand, or the best on items left out of it."""

from dataclasses import dataclass
from typing import Any

from pilotfish import stats
from pilotfish.comparison.case import ComparisonData


@dataclass(frozen=True)
class ChosenMethod:
    """arm: of the verdict. case: what it is judged on. facts: the `chosen` of report.json."""

    arm: str
    case: ComparisonData
    facts: dict[str, Any] | None


def choose_method(case: ComparisonData) -> ChosenMethod:
    """The arm of the verdict, and the items it is judged on.

    A method picked because it did best on the test rows is no longer judged fairly by them. So a
    plan says `method_selection: split`: then half of the items, by a hash of their ids, picks the
    method, and the other half judges it. Both halves were answered by the same trained models, so
    luck in seeds gets through where seeds differ much (docs/statistics.md has the rates). Otherwise
    the verdict stays on the method named beforehand; Holm's correction is applied to the others.
    """
    names = [name for name in ("selected", *case.methods) if case.has(name)]
    if case.plan.get("method_selection") != "split" or len(names) < 2 or not case.has("random"):
        facts = None
        if len(names) > 1:
            facts = {
                "method": "selected", "how": "fixed",
                "sentence": f"The verdict is on {_of(case, 'selected')}, named beforehand; "
                f"{len(names) - 1} more are told beside it, corrected for their number.",
            }  # fmt: skip
        return ChosenMethod("selected", case, facts)
    ids, arms = case.items(), {name: case.values(name) for name in names}
    try:
        best = stats.best_of(
            arms, case.values("random"), ids, higher_is_better=case.higher_is_better
        ).name
    except ValueError:  # not one item that all methods could be judged on
        return ChosenMethod("selected", case, None)
    first = stats.halves(ids)
    judging = case.among({i for i, half in zip(ids, first, strict=True) if not half})
    sentence = (
        f"{_of(case, best)} did best of {len(names)} methods on one half of the test rows "
        f"({first.sum():,}); it is judged on the other ({len(ids) - first.sum():,})."
    )
    return ChosenMethod(best, judging, {"method": best, "how": "split", "sentence": sentence})


def _of(case: ComparisonData, name: str) -> str:
    text = case.plan.get("methods", {}).get(name) or case.plan.get("method", name)
    return f"{name} ({text})"
