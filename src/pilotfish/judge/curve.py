"""The data-efficiency curve: what each way of choosing rows reaches with how many of them."""

from collections.abc import Iterator
from typing import Any

from pilotfish import stats
from pilotfish.judge.case import Case
from pilotfish.judge.places import EPOCHS, Place

DRAWN = ("random", "length_matched", "longest")


def curve(case: Case) -> dict[str, Any] | None:
    """The `curve` of report.json; None where there was one budget only.

    Every point is a mean with its interval over seeds and items. `floor` is the base model, `full`
    the arm of all rows. Series at equal steps, and where such arms were trained at equal epochs.
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
    }


def _points(case: Case, name: str, equal: str) -> Iterator[dict[str, Any]]:
    """By rows, fewest first. At the verdict's budget steps and epochs are equal together."""
    found = []
    for slug, budget in case.budgets.items():
        arm = Place(name, slug, equal if slug else "").name
        if case.has(arm):
            learnt = {key: _whole(case.fact(arm, key)) for key in ("rows", "tokens", "steps")}
            found.append({"arm": arm, "budget": budget, **learnt, **_estimate(case, arm)})
    yield from sorted(found, key=lambda point: point["rows"] or 0)


def _line(case: Case, arm: str) -> dict[str, Any] | None:
    return {"arm": arm, **_estimate(case, arm)} if case.has(arm) else None


def _estimate(case: Case, arm: str) -> dict[str, Any]:
    found = stats.mean(case.values(arm), alpha=case.alpha, fixed=case.fixed(arm))
    return {
        "mean": found.value, "low": found.low, "high": found.high,
        "seeds": sorted(case.results[arm]),
    }  # fmt: skip


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
