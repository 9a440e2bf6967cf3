"""Gates: pass, fail and inconclusive, against an arm, another run, or one task alone."""

from dataclasses import replace

import pytest

from pilotfish.comparison.gates import exit_code, gates, parse_gate, reference_folder
from pilotfish.config import Gate
from pilotfish.errors import UsageError
from tests.comparison.cases import made

CASE = made(
    {"selected": 0.80, "random": 0.80, "base": 0.60, "full": 0.95}, items=4000, spread=0.002
)


@pytest.mark.parametrize(
    ("against", "outcome"), [("base", "pass"), ("random", "pass"), ("full", "fail")]
)
def test_bounds_on_one_side_of_the_margin_decide(against: str, outcome: str) -> None:
    (found,) = gates(CASE, {"safe": Gate(against=against, margin=0.05)})
    assert (found["name"], found["outcome"]) == ("safe", outcome)
    assert found["low"] < found["difference"] < found["high"]
    assert found["sentence"].startswith(outcome)


def test_an_interval_on_both_sides_is_inconclusive_and_says_what_would_decide() -> None:
    small = made({"selected": 0.78, "random": 0.8}, items=100, spread=0.003)
    (found,) = gates(small, {"safe": Gate(against="random", margin=0.03)})
    assert found["outcome"] == "inconclusive"
    assert "be decided with about" in found["needed"] and found["needed"] in found["sentence"]


def test_one_seed_is_inconclusive() -> None:
    (found,) = gates(made({"selected": 0.9, "base": 0.1}, seeds=1), {"safe": Gate()})
    assert found["outcome"] == "inconclusive" and found["low"] is None


def test_a_metric_where_less_is_better_is_turned_around() -> None:
    loss = replace(CASE, higher_is_better=False)
    told = {a: gates(loss, {"g": Gate(against=a)})[0]["outcome"] for a in ("base", "full")}
    assert told == {"base": "fail", "full": "pass"}


def test_holm_protects_a_failing_flag_among_many() -> None:
    near = made({"selected": 0.78, "random": 0.83}, items=4000, spread=0.004, seeds=4)
    alone = gates(near, {"one": Gate(against="random")})
    many = {f"g{i}": Gate(against="random", margin=0.02 + 1e-6 * i) for i in range(40)}
    assert alone[0]["outcome"] == "fail"
    p = gates(near, many)[0]["p_holm"]
    assert p is not None and p > alone[0]["p_holm"]


def test_a_reference_in_another_run() -> None:
    other = {"runs/a": {"selected": CASE.results["full"]}}
    (found,) = gates(CASE, {"kept": Gate(against="runs/a")}, other)
    assert found["outcome"] == "fail" and found["against"] == "runs/a"
    with pytest.raises(UsageError, match="no evaluated arm 'random' in runs/a"):
        gates(CASE, {"kept": Gate(against="runs/a:random")}, other)


@pytest.mark.parametrize(
    ("against", "found"),
    [
        ("base", None),
        ("selcted", None),
        ("runs/a", ("runs/a", "selected")),
        ("runs/a:random", ("runs/a", "random")),
        ("../old", ("../old", "selected")),
    ],
)
def test_where_a_reference_stands(against: str, found: tuple[str, str] | None) -> None:
    assert reference_folder(["base", "selected"], against) == found


def test_a_guard_on_one_task_looks_at_its_items_alone() -> None:
    ids = CASE.items()
    worse = dict(CASE.results["selected"])
    hard = set(ids[:1000])
    worse = {s: {i: 0.0 if i in hard else v for i, v in by.items()} for s, by in worse.items()}
    tasks = {i: "hard" if i in hard else "easy" for i in ids}
    case = replace(CASE, results={**CASE.results, "selected": worse}, tasks=tasks)
    told = gates(case, {t: Gate(against="random", task=t, margin=0.05) for t in ("hard", "easy")})
    assert [one["outcome"] for one in told] == ["fail", "pass"]
    with pytest.raises(UsageError, match="tasks evaluated: easy, hard"):
        gates(case, {"g": Gate(task="odd")})


def test_an_arm_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="needs the arm 'weak'; evaluated were base, full"):
        gates(CASE, {"g": Gate(against="weak")})


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("selected>=base-0.02", Gate()),
        (" selected >= base - 0.02 ", Gate()),
        ("ifd@5pct>=random@5pct-.5", Gate(arm="ifd@5pct", against="random@5pct", margin=0.5)),
        ("selected>=runs/v-2-0.01", Gate(against="runs/v-2", margin=0.01)),
        ("selected>=runs/a:random-0.01", Gate(against="runs/a:random", margin=0.01)),
        ("selected>=base-0.02 on long division", Gate(task="long division")),
    ],
)
def test_a_gate_as_it_is_typed(text: str, gate: Gate) -> None:
    assert parse_gate(text) == gate


@pytest.mark.parametrize(
    "text",
    ["", "selected", "selected>=base", "selected>=base-2", "selected>=runs/v-2", ">=base-0.02",
     "selected>base-0.02", "selected>=base-0.0", "selected>=-0.02", "selected>=base-0.02 on"],
)  # fmt: skip
def test_what_is_no_gate_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError, match="cannot read the gate") as refused:
        parse_gate(text)
    assert "selected>=base-0.02" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], 0),
        (["pass", "pass"], 0),
        (["pass", "inconclusive"], 5),
        (["inconclusive", "fail", "pass"], 4),
    ],
)
def test_a_failure_outweighs_what_is_open(outcomes: list[str], code: int) -> None:
    assert exit_code([{"outcome": outcome} for outcome in outcomes]) == code


def test_a_failure_that_holm_takes_back_is_told_as_such() -> None:
    """The upper bound lies below the margin, so no word of an interval on both sides."""
    near = made({"selected": 0.79, "random": 0.83}, items=2000, spread=0.004, seeds=3)
    alone = gates(near, {"one": Gate(against="random")})[0]
    assert alone["outcome"] == "fail" and 0.001 < alone["p_holm"] < 0.05
    many = {f"g{i}": Gate(against="random", margin=0.02) for i in range(60)}
    (first, *_) = gates(near, many)
    assert first["outcome"] == "inconclusive" and first["high"] < -0.02
    assert "not significant among several gates" in first["sentence"]
    assert "both sides" not in first["sentence"] and "two seeds" not in first["sentence"]
