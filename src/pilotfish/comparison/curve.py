"""The data-efficiency curve: what each way of choosing rows reaches with how many of them."""

from collections.abc import Iterator
from typing import Any

from pilotfish import stats
from pilotfish.comparison.arm_names import EPOCHS, ArmName
from pilotfish.comparison.case import ComparisonData

DRAWN = ("random", "length_matched", "longest")

INDICATION = " An indication: it takes 3 seeds to say so."


def curve(case: ComparisonData) -> dict[str, Any] | None:
    """The `curve` of report.json; None where there was one budget only.

    Every point is a mean with its interval over seeds and items. `floor` is the base model, `full`
    the arm of all rows. Series at equal steps, and where such arms were trained at equal epochs.
    `efficiency`: how many random rows do the work of the selected ones, a line for each budget;
    `area`: selected minus random under the curve in log rows; `recovery`: the share of the gain of
    all rows over the base model.
    """
    if len(case.budgets) < 2:
        return None
    series = [
        {"name": name, "equal": equal or "steps", "points": points}
        for equal in ("", EPOCHS)
        for name in ("selected", *case.methods, *DRAWN)
        if (points := list(_points(case, name, equal)))
    ]
    return {
        "metric": case.metric,
        "higher_is_better": case.higher_is_better,
        "floor": _line(case, "base"),
        "full": _line(case, "full"),
        "series": [each for each in series if len(each["points"]) > 1],
        "efficiency": _efficiency(case),
        "area": _area(case),
        "recovery": _recovery(case),
    }


def _swept(case: ComparisonData) -> list[tuple[int, str, str, str]]:
    """(rows, budget, selected arm, random arm) of every budget with both, fewest rows first.

    Budgets that came to the same number of rows (10% of 2,000, and 200rows) are one.
    """
    found: dict[int, tuple[int, str, str, str]] = {}
    for slug, budget in case.budgets.items():
        selected, random = (ArmName(name, slug).name for name in ("selected", "random"))
        rows = case.fact(selected, "rows")
        if rows and case.has(selected, random):
            found.setdefault(round(rows), (round(rows), budget, selected, random))
    return sorted(found.values())


def _efficiency(case: ComparisonData) -> list[dict[str, Any]]:
    swept = _swept(case)
    if len(swept) < 2:
        return []
    rows = [count for count, *_ in swept]
    picked = [case.values(arm) for *_, arm, _ in swept]
    random = [case.values(arm) for *_, arm in swept]
    told = []
    for count, budget, arm, other in swept:
        claim = case.is_claim(arm, other)
        found = stats.efficiency(
            rows, picked, random, count, higher_is_better=case.higher_is_better, alpha=case.alpha
        )
        told.append({
            "arm": arm, "budget": budget, "rows": count, "value": found.value,
            "censored": bool(found.censored), "side": found.censored,
            "low": found.low, "high": found.high,
            "sentence": _worth(count, found) + ("" if claim else INDICATION),
        })  # fmt: skip
    return told


def _worth(rows: int, found: stats.Efficiency) -> str:
    if found.value is None:
        return f"What {rows:,} selected rows are worth in random ones cannot be told: {found.why}."
    many = f"{found.value * rows:,.0f} random ones ({found.value:.2f} times as many)"
    if found.censored == "above":
        return f"{rows:,} selected rows do more than {many}: no random budget here does as much."
    if found.censored == "below":
        return f"{rows:,} selected rows do less than {many}, the fewest tried."
    ends = [("?" if end is None else f"{end:.2f}") for end in (found.low, found.high)]
    return f"{rows:,} selected rows do the work of {many[:-1]}; interval {ends[0]} to {ends[1]})."


def _area(case: ComparisonData) -> list[dict[str, Any]]:
    swept = _swept(case)
    if len(swept) < 2:
        return []
    picked = [case.values(arm) for *_, arm, _ in swept]
    random = [case.values(arm) for *_, arm in swept]
    found = stats.area([rows for rows, *_ in swept], picked, against=random, alpha=case.alpha)
    return [
        {"name": "selected - random", "value": found.value, "low": found.low, "high": found.high}
    ]


def _recovery(case: ComparisonData) -> list[dict[str, Any]]:
    told = ((arm, budget, recovered(case, arm)) for _, budget, arm, _ in _swept(case))
    return [{"arm": arm, "budget": budget, **found} for arm, budget, found in told if found]


def recovered(case: ComparisonData, arm: str) -> dict[str, Any] | None:
    """{value, low, high, defined, why}: the share of all rows' gain over the base model that an
    arm has; None where one of the three was not judged."""
    if not case.has(arm, "full", "base"):
        return None
    found = stats.recovery(
        case.values(arm), case.values("full"), case.values("base"),
        higher_is_better=case.higher_is_better, alpha=case.alpha,
        fixed=(case.fixed(arm), False, case.fixed("base")),
    )  # fmt: skip
    return {
        "value": found.value, "low": found.low, "high": found.high, "defined": found.defined,
        "why": found.why,
    }  # fmt: skip


def _points(case: ComparisonData, name: str, equal: str) -> Iterator[dict[str, Any]]:
    """By rows, fewest first. At the verdict's budget steps and epochs are equal together."""
    found = []
    for slug, budget in case.budgets.items():
        arm = ArmName(name, slug, equal if slug else "").name
        if case.has(arm):
            learnt = {key: _whole(case.fact(arm, key)) for key in ("rows", "tokens", "steps")}
            found.append({"arm": arm, "budget": budget, **learnt, **_estimate(case, arm)})
    yield from sorted(found, key=lambda point: point["rows"] or 0)


def _line(case: ComparisonData, arm: str) -> dict[str, Any] | None:
    return {"arm": arm, **_estimate(case, arm)} if case.has(arm) else None


def _estimate(case: ComparisonData, arm: str) -> dict[str, Any]:
    found = stats.mean(case.values(arm), alpha=case.alpha, fixed=case.fixed(arm))
    return {
        "mean": found.value, "low": found.low, "high": found.high,
        "seeds": sorted(case.results[arm]),
    }  # fmt: skip


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
