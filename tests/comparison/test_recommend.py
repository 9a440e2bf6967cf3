"""What to do: select, take random rows, all of them, trusted ones only, or nothing at all."""

import math
from dataclasses import replace

import pytest

from pilotfish.comparison.recommend import recommendation
from tests.comparison.cases import made

PLAN = {"arms": ["selected"], "budgets": {"": "20%", "10pct": "10%", "5pct": "5%"}}


@pytest.mark.parametrize(
    ("shares", "choice"),
    [
        ({"selected": 0.8, "random": 0.5}, "selected"),
        ({"selected": 0.5, "random": 0.8}, "random"),
        ({"selected": 0.8, "random": 0.5, "full": 0.95}, "full"),
        ({"selected": 0.8, "random": 0.5, "full": 0.7}, "selected"),
        ({"selected": 0.8, "random": 0.5, "trusted": 0.95}, "trusted"),
        ({"selected": 0.6, "random": 0.4, "base": 0.9}, "base"),
        ({"selected": 0.8, "random": 0.5, "trusted_full": 0.95}, "full"),
    ],
)
def test_the_best_by_its_interval_is_recommended(shares: dict[str, float], choice: str) -> None:
    found = recommendation(made(shares, items=2000, spread=0.003))
    assert found and found["choice"] == choice
    assert {rival["arm"] for rival in found["rivals"]} == set(shares) - {"selected"}


def test_random_rows_as_good_within_the_margin_are_cheaper() -> None:
    found = recommendation(made({"selected": 0.7, "random": 0.7}, items=20_000, spread=0.0005))
    assert found and found["choice"] == "random"
    assert "cost nothing to pick" in found["sentence"]


def test_what_is_not_decided_is_not_recommended() -> None:
    found = recommendation(made({"selected": 0.72, "random": 0.70}, items=100, spread=0.03))
    assert found and found["choice"] == "undecided"


@pytest.mark.parametrize(
    ("shares", "items", "start"),
    [
        ({"selected": 0.8, "random": 0.5}, 2000, "Select 20%"),
        ({"selected": 0.5, "random": 0.8}, 2000, "Take random rows"),
        ({"selected": 0.8, "random": 0.5, "full": 0.95}, 2000, "Train on all rows"),
        ({"selected": 0.8, "random": 0.5, "trusted": 0.95}, 2000, "Train on the trusted rows only"),
        ({"selected": 0.6, "random": 0.4, "base": 0.9}, 2000, "Do not train"),
        ({"selected": 0.72, "random": 0.70}, 100, "Undecided at 20%"),
    ],
)
def test_every_advice_says_its_difference_and_interval(
    shares: dict[str, float], items: int, start: str
) -> None:
    spread = 0.003 if items > 1000 else 0.03
    found = recommendation(made(shares, items=items, spread=spread, plan=PLAN))
    assert found and found["sentence"].startswith(start)
    ends = {
        f"{rival['difference']:+.3f} ({rival['low']:+.3f} to {rival['high']:+.3f})"
        for rival in found["rivals"]
    }
    assert any(each in found["sentence"] for each in ends), (found["sentence"], ends)


def test_two_seeds_recommend_nothing() -> None:
    found = recommendation(made({"selected": 0.9, "random": 0.1}, seeds=2))
    assert found and found["choice"] == "undecided"
    assert "3 seeds" in found["sentence"]
    assert recommendation(made({"random": 0.5})) is None


def test_the_smallest_budget_as_good_as_the_best_is_where_to_stop() -> None:
    shares = {"selected": 0.9, "selected@10pct": 0.9, "selected@5pct": 0.7,
              "random": 0.5, "random@10pct": 0.4, "random@5pct": 0.3}  # fmt: skip
    rows = {"selected": 200, "selected@10pct": 100, "selected@5pct": 50}
    case = made(shares, items=20_000, spread=0.0005, rows=rows, plan=PLAN)
    found = recommendation(case)
    assert found and (found["arm"], found["budget"]) == ("selected@10pct", "10%")
    assert found["rivals"][0]["arm"] == "random@10pct"


def test_a_smaller_budget_that_is_merely_not_shown_to_be_worse_is_not_taken() -> None:
    shares = {"selected": 0.85, "selected@10pct": 0.75, "random": 0.5, "random@10pct": 0.4}
    rows = {"selected": 200, "selected@10pct": 100}
    found = recommendation(made(shares, items=60, spread=0.01, rows=rows, plan=PLAN))
    assert found and found["budget"] == "20%"
    assert "no smaller one is shown to be as good" in found["sentence"]


def test_of_several_rivals_that_beat_it_the_best_is_recommended() -> None:
    """A dirty pool: few random rows are worse than none, and all rows are better than either."""
    shares = {"selected": 0.4, "random": 0.3, "base": 0.5, "full": 0.9}
    found = recommendation(made(shares, items=2000, spread=0.003))
    assert found and found["choice"] == "full"
    assert found["sentence"].startswith(
        "Train on all rows: the selection's difference from them is -0.4"
    )
    equal = {"selected": 0.6, "random": 0.6, "trusted": 0.9}
    found = recommendation(made(equal, items=20_000, spread=0.0005))
    assert found and found["choice"] == "trusted"


def test_it_is_about_the_method_of_the_verdict() -> None:
    case = made({"selected": 0.4, "ifd": 0.8, "random": 0.5}, items=2000, spread=0.003)
    mine, other = recommendation(case, "ifd"), recommendation(case)
    assert mine and other
    assert (mine["choice"], mine["arm"]) == ("selected", "ifd")
    assert (other["choice"], other["arm"]) == ("random", "selected")


def test_where_less_is_better_the_best_budget_has_the_least() -> None:
    shares = {"selected": 0.2, "selected@10pct": 0.4, "random": 0.7, "random@10pct": 0.8}
    rows = {"selected": 200, "selected@10pct": 100}
    case = replace(made(shares, items=2000, spread=0.003, rows=rows, plan=PLAN),
                   higher_is_better=False)  # fmt: skip
    found = recommendation(case)
    assert found and (found["choice"], found["budget"]) == ("selected", "20%")


def test_a_budget_that_could_not_be_judged_is_not_where_to_stop() -> None:
    """Where less is better, nothing at all must not look like the least."""
    case = made({"selected": 0.3, "selected@10pct": 0.2, "random": 0.7}, plan=PLAN)
    nothing = {s: dict.fromkeys(items, math.nan) for s, items in case.results["random"].items()}
    case = replace(case, results={**case.results, "selected@10pct": nothing},
                   higher_is_better=False)  # fmt: skip
    found = recommendation(case)
    assert found and found["budget"] == "20%"
