"""The data-efficiency curve: the result of each way to choose rows, by number of rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pilotfish import stats
from pilotfish.comparison.arm_names import EPOCHS, ArmName
from pilotfish.comparison.data import CLAIM_SEEDS, ComparisonData

CONTROLS = ("random", "length_matched", "longest")


class _Budget(NamedTuple):
    """A budget with a selected and a random arm."""

    rows: int
    budget: str
    selected: str
    random: str


def curve(data: ComparisonData) -> dict[str, Any] | None:
    """Return the `curve` of report.json; None with one budget only.

    Returns:
        metric and higher_is_better; floor (the base model) and full (all rows); series of points
        (means with intervals over seeds and items) at equal steps and, where trained, at equal
        epochs; efficiency: how many random rows do as well as the selected ones, per budget; area:
        selected minus random under the curve in log rows; recovery: see `recovered`.
    """
    if len(data.budgets) < 2:
        return None
    series = []
    for equal in ("", EPOCHS):
        for name in ("selected", *data.methods, *CONTROLS):
            points = _points(data, name, equal)
            if len(points) > 1:
                series.append({"name": name, "equal": equal or "steps", "points": points})
    floor, full = (
        {"arm": arm, **_mean(data, arm)} if data.has(arm) else None for arm in ("base", "full")
    )
    budgets = _budgets(data)
    recoveries = ((one, recovered(data, one.selected)) for one in budgets)
    return {
        "metric": data.metric,
        "higher_is_better": data.higher_is_better,
        "floor": floor,
        "full": full,
        "series": series,
        "efficiency": _efficiency(data, budgets),
        "area": _area(data, budgets),
        "recovery": [
            {"arm": one.selected, "budget": one.budget, **found}
            for one, found in recoveries
            if found
        ],
    }


def recovered(data: ComparisonData, arm: str) -> dict[str, Any] | None:
    """Return the share of the gain of all rows over the base model that an arm reaches.

    Returns:
        {value, low, high, defined, why}; None unless the arm, `full` and `base` were evaluated.
    """
    if not data.has(arm, "full", "base"):
        return None
    found = stats.recovery(
        data.values(arm),
        data.values("full"),
        data.values("base"),
        higher_is_better=data.higher_is_better,
        alpha=data.alpha,
        fixed=(data.fixed(arm), False, data.fixed("base")),
    )
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "defined": found.defined,
        "why": found.why,
    }


def _points(data: ComparisonData, name: str, equal: str) -> list[dict[str, Any]]:
    """Return the points of one series, fewest rows first.

    At the verdict's budget, equal steps and equal epochs are the same arm.
    """
    points = []
    for slug, budget in data.budgets.items():
        arm = ArmName(name, slug, equal if slug else "").name
        if data.has(arm):
            point: dict[str, Any] = {"arm": arm, "budget": budget}
            for key in ("rows", "tokens", "steps"):
                value = data.training_fact(arm, key)
                point[key] = None if value is None else round(value)
            points.append({**point, **_mean(data, arm)})
    return sorted(points, key=lambda point: point["rows"] or 0)


def _mean(data: ComparisonData, arm: str) -> dict[str, Any]:
    found = stats.mean(data.values(arm), alpha=data.alpha, fixed=data.fixed(arm))
    return {
        "mean": found.value,
        "low": found.low,
        "high": found.high,
        "seeds": sorted(data.results[arm]),
    }


def _budgets(data: ComparisonData) -> list[_Budget]:
    """Return every budget with a selected and a random arm, fewest rows first.

    Budgets that came to the same number of rows (10% of 2,000, and 200rows) are one.
    """
    found: dict[int, _Budget] = {}
    for slug, budget in data.budgets.items():
        selected, random = (ArmName(name, slug).name for name in ("selected", "random"))
        rows = data.training_fact(selected, "rows")
        if rows and data.has(selected, random):
            found.setdefault(round(rows), _Budget(round(rows), budget, selected, random))
    return sorted(found.values())


def _efficiency(data: ComparisonData, budgets: Sequence[_Budget]) -> list[dict[str, Any]]:
    if len(budgets) < 2:
        return []
    rows = [one.rows for one in budgets]
    selected = [data.values(one.selected) for one in budgets]
    random = [data.values(one.random) for one in budgets]
    lines = []
    for one in budgets:
        found = stats.efficiency(
            rows,
            selected,
            random,
            one.rows,
            higher_is_better=data.higher_is_better,
            alpha=data.alpha,
        )
        text = _worth(one.rows, found)
        if not data.is_claim(one.selected, one.random):
            text += f" This is an indication only: a claim needs {CLAIM_SEEDS} seeds."
        lines.append(
            {
                "arm": one.selected,
                "budget": one.budget,
                "rows": one.rows,
                "value": found.value,
                "censored": bool(found.censored),
                "side": found.censored,
                "low": found.low,
                "high": found.high,
                "sentence": text,
            }
        )
    return lines


def _worth(rows: int, found: stats.Efficiency) -> str:
    """Say how many random rows do as well as `rows` selected ones."""
    if found.value is None:
        return f"How many random rows do as well as {rows:,} selected rows is unknown: {found.why}."
    many = f"{found.value * rows:,.0f} random rows ({found.value:.2f} times as many"
    if found.censored == "above":
        return f"{rows:,} selected rows do better than {many}), the most that were tried."
    if found.censored == "below":
        return f"{rows:,} selected rows do worse than {many}), the fewest that were tried."
    low, high = ("?" if end is None else f"{end:.2f}" for end in (found.low, found.high))
    return f"{rows:,} selected rows do as well as {many}; interval {low} to {high})."


def _area(data: ComparisonData, budgets: Sequence[_Budget]) -> list[dict[str, Any]]:
    if len(budgets) < 2:
        return []
    found = stats.area(
        [one.rows for one in budgets],
        [data.values(one.selected) for one in budgets],
        against=[data.values(one.random) for one in budgets],
        alpha=data.alpha,
    )
    area = {"value": found.value, "low": found.low, "high": found.high}
    return [{"name": "selected - random", **area}]
