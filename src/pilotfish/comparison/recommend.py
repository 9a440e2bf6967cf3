"""Where to stop, and whether to select at all: one sentence that may say random, or full."""

import math
from typing import Any

from pilotfish import stats
from pilotfish.comparison.arm_names import ArmName
from pilotfish.comparison.case import ComparisonData
from pilotfish.comparison.contrast import Contrast
from pilotfish.comparison.verdict import is_settled

CHEAPER = ("trusted", "base")  # than selecting, as random rows are: nothing is scored for them
DEARER = ("full", "trusted_full")  # learnt from all rows: only for being better


def recommendation(case: ComparisonData, method: str = "selected") -> dict[str, Any] | None:
    """The `recommendation` of report.json; None without a judged selection.

    The rule, fixed beforehand. 1. Of the budgets take the one whose selected arm has the best mean;
    go down to the smallest budget that is shown not to be worse than it by more than the margin
    (one-sided interval). 2. Hold its arm against random rows at that budget, trusted rows alone and
    the base model (cheaper) and against all rows (dearer). A rival that is better beats it; a
    cheaper one also where the two are equivalent within the margin; of several the one with the
    best mean is recommended. 3. Otherwise the selection is if it is better than random; else
    nothing is: `undecided`. Below 3 seeds nothing is recommended. method: the selection that the
    verdict is on, `selected` or one of `methods`.
    """
    arms = {slug: ArmName(method, slug).name for slug in case.budgets}
    judged = {
        slug: arm for slug, arm in arms.items() if case.has(arm) and _merit(case, arm) > -math.inf
    }
    if not judged:
        return None
    slug, best = _where_to_stop(case, judged)
    arm, budget = judged[slug], case.budgets[slug]
    rivals = [name for name in _rivals(slug) if case.has(name)]
    found = {name: case.contrast(arm, name) for name in rivals}
    choice, why = _choice(case, arm, found, ArmName("random", slug).name)
    return {
        "choice": choice,
        "arm": arm,
        "budget": budget,
        "sentence": _sentence(choice, why, budget, judged, best, case),
        "rivals": [_told(name, said) for name, said in found.items()],
    }


def _where_to_stop(case: ComparisonData, judged: dict[str, str]) -> tuple[str, str]:
    """(slug of the smallest budget as good as the best, slug of the best)."""
    best = max(judged, key=lambda slug: (_merit(case, judged[slug]), slug))
    by_rows = sorted(judged, key=lambda slug: case.fact(judged[slug], "rows") or 0)
    for slug in by_rows:
        if slug == best or _as_good(case, judged[slug], judged[best]):
            return slug, best
    return best, best


def _merit(case: ComparisonData, arm: str) -> float:
    """The mean of an arm turned so that more is better; -inf where nothing could be judged."""
    mean = stats.mean(case.values(arm)).value
    if mean is None:
        return -math.inf
    return mean if case.higher_is_better else -mean


def _as_good(case: ComparisonData, arm: str, best: str) -> bool:
    """Whether it is shown to be no worse by more than the margin."""
    if not case.is_claim(arm, best):
        return False
    found = stats.difference(*(case.values(each) for each in (arm, best)), alpha=2 * case.alpha)
    bound = found.low if case.higher_is_better else found.high
    if bound is None:
        return False
    return bound > -case.margin if case.higher_is_better else bound < case.margin


def _rivals(slug: str) -> list[str]:
    return [ArmName("random", slug).name, "trusted", "base", *DEARER]


def _choice(
    case: ComparisonData, arm: str, found: dict[str, Contrast], random: str
) -> tuple[str, tuple[str, Contrast | None]]:
    """(what to do, (the arm that decides, the difference to it))."""
    if random not in found or not case.is_claim(arm, random):
        return "undecided", ("seeds", found.get(random))
    outcomes = {
        name: is_settled(said, case.margin)
        for name, said in found.items()
        if case.is_claim(arm, name)
    }
    cheap = (random, *CHEAPER)
    ahead = [
        name
        for name, outcome in outcomes.items()
        if outcome == "worse" or (outcome == "equivalent" and name in cheap)
    ]
    if ahead:  # of equal ones the first, and those come cheapest first
        name = max(ahead, key=lambda each: _merit(case, each))
        return _named(name), (name, found[name])
    if outcomes[random] == "better":
        return "selected", (random, found[random])
    return "undecided", (random, found[random])


def _named(rival: str) -> str:
    return {"trusted_full": "full"}.get(rival, rival.partition("@")[0])


def _told(name: str, said: Contrast) -> dict[str, Any]:
    return {
        "arm": name, "difference": said.found.value, "low": said.found.low,
        "high": said.found.high,
    }  # fmt: skip


def _sentence(
    choice: str,
    why: tuple[str, Contrast | None],
    budget: str,
    judged: dict[str, str],
    best: str,
    case: ComparisonData,
) -> str:
    name, said = why
    gap = _gap(said)
    if name == "seeds":
        return "No recommendation: it takes selected and random arms with 3 seeds each."
    if choice == "selected":
        return f"Select {budget}: {gap} over random rows.{_stop(budget, judged, best, case)}"
    if choice == "undecided":
        return (
            f"Undecided at {budget}: {gap} over random rows. Nothing here shows that selecting "
            "pays, and nothing that it does not."
        )
    instead = {
        "random": f"Take random rows: the selection at {budget} came out {gap} against them, and "
        "they cost nothing to pick",
        "trusted": f"Train on the trusted rows only: the selection came out {gap} against them",
        "full": f"Train on all rows: the selection came out {gap} against them",
        "base": f"Do not train: the selection came out {gap} against the model as it came",
    }
    return f"{instead[choice]}."


def _stop(budget: str, judged: dict[str, str], best: str, case: ComparisonData) -> str:
    if len(judged) < 2:
        return ""
    top = case.budgets[best]
    if top == budget:
        return (
            f" Of {len(judged)} budgets it has the best mean, and no smaller one is shown to be "
            "as good."
        )
    return f" It is shown to be as good as {top}, the best, within {case.margin:g}."


def _gap(said: Contrast | None) -> str:
    if said is None or said.found.value is None:
        return "unknown"
    found = said.found
    if found.low is None or found.high is None:
        return f"{found.value:+.3f} (no interval)"
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
