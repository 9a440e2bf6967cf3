"""The curve by rows, what else is held equal, break-even, and the method of the verdict."""

import pytest

from pilotfish.comparison.arm_names import ArmName, parse_arm_name
from pilotfish.comparison.curve import curve
from pilotfish.comparison.recommend import SelectionCost, break_even
from pilotfish.comparison.secondary import matched_table
from pilotfish.comparison.verdict import choose_method
from pilotfish.flops import Cost
from tests.comparison.cases import made

BUDGETS = {"": "20%", "5pct": "5%"}
ROWS = {"selected": 200, "random": 200, "selected@5pct": 50, "random@5pct": 50}
SHARES = {"base": 0.3, "full": 0.8, "selected": 0.7, "random": 0.6, "selected@5pct": 0.6,
          "random@5pct": 0.4}  # fmt: skip


def test_names_and_places_are_one() -> None:
    for name in ("selected", "selected@5pct", "full@epochs", "random@2Mtokens@epochs"):
        assert parse_arm_name(name).name == name
    assert parse_arm_name("full@epochs") == ArmName("full", "", "epochs")


def test_a_curve_goes_by_rows_with_floor_and_full() -> None:
    found = curve(made(SHARES, rows=ROWS, plan={"budgets": BUDGETS}))
    assert found
    assert [each["name"] for each in found["series"]] == ["selected", "random"]
    points = found["series"][0]["points"]
    assert [(p["arm"], p["budget"], p["rows"]) for p in points] == [
        ("selected@5pct", "5%", 50), ("selected", "20%", 200),
    ]  # fmt: skip
    assert found["floor"]["arm"] == "base" and found["full"]["mean"] > points[0]["mean"]
    assert points[0]["low"] < points[0]["mean"] < points[0]["high"]


def test_what_selected_rows_are_worth_in_random_ones() -> None:
    case = made(SHARES, rows=ROWS, items=4000, spread=0.001, plan={"budgets": BUDGETS})
    found = curve(case)
    assert found
    small, large = found["efficiency"]
    # 50 selected rows reach .6, which 200 random ones reach; 200 selected ones are above them all
    assert small["value"] == pytest.approx(4, rel=0.1) and small["rows"] == 50
    assert large["censored"] and large["value"] == pytest.approx(1)
    assert "do better than 200 random rows" in large["sentence"]
    (area,) = found["area"]
    assert area["low"] < area["value"] < area["high"]
    assert area["value"] == pytest.approx((0.2 + 0.1) / 2, abs=0.02)
    kept = {one["arm"]: one["value"] for one in found["recovery"]}
    assert kept["selected"] == pytest.approx((0.7 - 0.3) / (0.8 - 0.3), abs=0.05)


def test_one_budget_is_no_curve() -> None:
    assert curve(made(SHARES, rows=ROWS)) is None


def test_equal_epochs_are_a_series_of_their_own_from_the_verdicts_budget() -> None:
    shares = SHARES | {"selected@5pct@epochs": 0.5, "random@5pct@epochs": 0.3}
    found = curve(made(shares, rows=ROWS, plan={"budgets": BUDGETS}))
    assert found
    names = [(each["name"], each["equal"]) for each in found["series"]]
    assert names == [("selected", "steps"), ("random", "steps"), ("selected", "epochs"),
                     ("random", "epochs")]  # fmt: skip
    assert {p["arm"] for p in found["series"][2]["points"]} == {"selected@5pct@epochs", "selected"}


def test_every_control_that_was_trained_has_its_line() -> None:
    shares = SHARES | {"random_tokens": 0.5, "random_compute": 0.69, "full@epochs": 0.9}
    rows = ROWS | {"random_tokens": 150, "random_compute": 260}
    told = matched_table(
        made(shares, rows=rows, items=4000, spread=0.002, plan={"budgets": BUDGETS})
    )
    assert [(one["what"], one["arm"], one["against"]) for one in told] == [
        ("steps", "selected", "random"), ("tokens", "selected", "random_tokens"),
        ("compute", "selected", "random_compute"), ("epochs", "selected", "full@epochs"),
        ("steps", "selected@5pct", "random@5pct"),
    ]  # fmt: skip
    assert told[1]["rows"] == [200, 150] and told[0]["outcome"] == "better"
    assert told[3]["outcome"] == "worse"
    assert all(one["p_holm"] >= one["p"] for one in told)
    assert told[1]["sentence"].startswith("Equal tokens: ")


def test_break_even_by_hand() -> None:
    case = made(SHARES, rows=ROWS)
    trained = {"selected seed 0": Cost(seconds=20.0, flops=2e12)}
    cost = SelectionCost(Cost(seconds=10.0, flops=1e12), trained, 1000)
    found = break_even(case, cost)
    # 1,000 rows cost five times the 200 selected ones: 100 s
    assert found and (found["needed"], found["needed_flops"], found["saved"]) == (0.1, 0.1, 0.8)
    assert "pays off only if it saves more than 10.0%" in found["sentence"]
    three = SelectionCost(Cost(seconds=30.0, flops=3e12), trained, 1000, times=3)
    assert break_even(case, three) == found  # three seeds with their own selections
    assert break_even(case, SelectionCost(Cost(), trained, 1000)) is None


def test_a_method_named_beforehand_keeps_the_verdict() -> None:
    plan = {"methods": {"ifd": "ifd"}, "method": "perplexity"}
    found = choose_method(made({"selected": 0.5, "ifd": 0.9, "random": 0.4}, plan=plan))
    assert found.arm == "selected" and found.facts and found.facts["how"] == "fixed"
    assert choose_method(made({"selected": 0.5, "random": 0.4})).facts is None


def test_a_method_chosen_by_its_results_is_judged_on_other_items() -> None:
    plan = {"methods": {"ifd": "ifd"}, "method": "perplexity", "method_selection": "split"}
    case = made({"selected": 0.5, "ifd": 0.9, "random": 0.4}, plan=plan)
    found = choose_method(case)
    assert found.arm == "ifd" and found.facts and found.facts["method"] == "ifd"
    left = set(found.data.items())
    assert 0.4 < len(left) / len(case.items()) < 0.6
    # what the method is judged on cannot have chosen it
    flipped = {
        arm: {s: {i: 1 - v if i in left else v for i, v in by.items()} for s, by in seeds.items()}
        for arm, seeds in case.results.items()
    }
    from dataclasses import replace

    assert choose_method(replace(case, results=flipped)).arm == "ifd"
