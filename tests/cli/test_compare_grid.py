"""`compare` and `run` over a grid: one table, gates that decide the exit code, tasks."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Command, write_jsonl
from tests.experiments.worlds import rows, write


@pytest.fixture
def recipe(tmp_path: Path, weak: str, strong: str) -> Any:
    test = [
        {**row, "kind": "even" if at % 2 else "odd"} for at, row in enumerate(rows(8, start=200))
    ]
    whole = {
        "data": write(tmp_path / "pool.jsonl", rows(24)), "weak": weak, "strong": strong,
        "budgets": ["25%", "50%"], "method": "perplexity(direction=low)", "metric": "loss",
        "test": write(tmp_path / "test.jsonl", test), "task_column": "kind", "seeds": 2,
        "arms": ["base", "random", "selected"],
        "train": {"max_steps": 1, "use_peft": False, "learning_rate": 1e-3},
    }  # fmt: skip

    def made(**more: Any) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(whole | more))
        return path

    return made


def test_a_grid_prints_every_arm_and_tells_tasks(
    recipe: Any, tmp_path: Path, pilotfish: Command
) -> None:
    out = tmp_path / "run"
    code, said, _ = pilotfish("compare", recipe(), "--out", out, "--quiet")
    assert code == 0
    for arm in ("base", "random", "selected", "random@50pct", "selected@50pct"):
        assert any(line.startswith(f"{arm} ") for line in said.splitlines())
    report = json.loads((out / "report.json").read_text())
    assert [each["task"] for each in report["tasks"]] == ["even", "odd"]
    assert report["macro"]["arm"] == "selected"
    assert [p["budget"] for p in report["curve"]["series"][0]["points"]] == ["25%", "50%"]
    items = (out / "judge/base/seed-0.jsonl").read_text().splitlines()
    assert {json.loads(line)["task"] for line in items} == {"even", "odd"}


FAILS = {"arm": "base", "against": "selected", "margin": 1e-9}


@pytest.mark.parametrize(
    ("command", "gate", "expected", "outcome"),
    [
        ("compare", {"against": "base", "margin": 100.0}, 0, "pass"),
        ("compare", {"arm": "selected", "against": "random", "margin": 1e-12}, 5, "inconclusive"),
        ("compare", FAILS, 4, "fail"),
        ("run", FAILS, 4, "fail"),
    ],
)
def test_gates_decide_the_exit_code(
    recipe: Any, tmp_path: Path, pilotfish: Command, command: str, gate: Any, expected: int,
    outcome: str,
) -> None:  # fmt: skip
    train = {"max_steps": 8, "use_peft": False, "learning_rate": 1e-2}
    more = {"gates": {"safe": gate}, "budgets": None, "train": train, "seeds": 3}
    code, said, _ = pilotfish(command, recipe(**more), "--out", tmp_path / "run", "--json")
    told = json.loads(said)["gates"]
    assert [one["outcome"] for one in told] == [outcome]
    assert code == expected
    assert (tmp_path / "run/report.html").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"gates": {"g": {"arm": "full"}}}, "guards the arm 'full', which is not trained"),
        ({"gates": {"g": {"against": "bse"}}}, "which is not an arm of this run"),
        ({"gates": {"g": {"against": "runs/none"}}}, "which is not a run folder"),
        ({"gates": {"g": {"task": "odd"}}, "task_column": None}, "test rows name no task"),
        ({"task_column": "kin"}, "no column 'kin' to name its task"),
        ({"gates": {"g": {"margn": 1}}}, "did you mean 'margin'"),
        ({"budgets": ["25%", "nonsense"]}, "cannot read the budget 'nonsense'"),
        ({"train": {"weights": "nope"}}, "no column 'nope' to weigh it by"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_is_spent(
    recipe: Any, tmp_path: Path, pilotfish: Command, more: dict[str, Any], said: str
) -> None:
    out = tmp_path / "run"
    code, _, err = pilotfish("compare", recipe(**more), "--out", out)
    assert code in (2, 3) and said in err
    assert not (out / "scores.parquet").exists()


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"against": "{other}:nope"}, "finds no evaluated arm 'nope'"),
        ({"against": "{other}"}, "evaluated with another metric or on "),
        ({"task": "neither"}, "no test row belongs to it"),
        ({"margin": "inf"}, "margin"),
        ({"arm": "base"}, "against itself"),
    ],
)
def test_a_gate_that_cannot_be_held_costs_no_training(
    recipe: Any, tmp_path: Path, pilotfish: Command, gate: Any, said: str
) -> None:
    items = write_jsonl(tmp_path / "i.jsonl", [{"id": "a", "metric": "m", "value": 1}])
    other = tmp_path / "other"
    results = [f"{arm}:0={items}" for arm in ("selected", "random")]
    assert pilotfish("compare", "--results", *results, "--out", other)[0] == 0
    gate = {key: value.replace("{other}", str(other)) for key, value in gate.items()}
    path = recipe(gates={"safe": gate}, seeds=1, budgets=None)
    code, out, _ = pilotfish("compare", path, "--out", tmp_path / "run", "--json")
    assert code == 2 and said in json.loads(out)["error"]
    assert not (tmp_path / "run/train").exists()


@pytest.mark.parametrize(
    "words", [["--gate", "safe"], ["--margin", "0.1"], ["--metric", "loss"], ["--arm", "full"]]
)
def test_what_a_recipe_would_not_heed_is_refused(
    recipe: Any, tmp_path: Path, pilotfish: Command, words: list[str]
) -> None:
    code, _, err = pilotfish("compare", recipe(), *words, "--out", tmp_path / "run")
    assert code == 2 and f"cannot use {words[0]}" in err
    assert pilotfish("compare", "--results", "a:0=b", "--seed", "1")[0] == 2
