"""`pilotfish plan` on the command line: one object, a table, errors in words."""

import json
from pathlib import Path

from tests.cli.conftest import Command, pairs, write_jsonl

TRAIN = ("--set", "train.max_steps=2", "--set", "train.use_peft=false")


def arguments(folder: Path, weak: str, strong: str) -> list[str]:
    pool = write_jsonl(folder / "pool.jsonl", pairs(40))
    test = write_jsonl(folder / "test.jsonl", pairs(4, start=90))
    return ["plan", pool, "--weak", weak, "--strong", strong, "--test", test, "--metric", "loss",
            "--budget", "25%", *TRAIN]  # fmt: skip


def test_json_is_one_object_with_every_step_and_level(
    pilotfish: Command, tmp_path: Path, weak: str, strong: str
) -> None:
    code, out, _ = pilotfish(
        *arguments(tmp_path, weak, strong), "--no-probe", "--per-hour", "2.50", "--json"
    )
    found = json.loads(out)
    assert code == 0
    assert {*found} >= {"steps", "total", "break_even", "evidence", "machine"}
    keys = {"n", "stage", "name", "rows", "tokens", "flops", "memory_bytes", "seconds", "money"}
    assert all({*step} >= keys for step in found["steps"])
    stages = [step["stage"] for step in found["steps"]]
    assert list(dict.fromkeys(stages)) == ["read", "score", "select", "train", "judge", "report"]
    assert {*found["evidence"]} == {"none", "quick", "full"}
    assert {*found["break_even"]} >= {"sentence", "needed", "saved", "ratio"}
    total = found["total"]
    assert abs(total["money"] - total["seconds"] / 3600 * 2.5) < 1e-9
    assert found["machine"]["device"] and found["machine"]["threads"] >= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pool.jsonl", "test.jsonl"]


def test_the_table_names_steps_totals_and_levels(
    pilotfish: Command, tmp_path: Path, weak: str, strong: str
) -> None:
    code, out, _ = pilotfish(*arguments(tmp_path, weak, strong), "--probe-seconds", "1", "--quiet")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["step", "stage", "what"] and "money" not in lines[0]
    assert any(line.startswith("total: 4 models trained, 2 seeds") for line in lines)
    assert any(line.startswith("-> evidence quick: 4 models") for line in lines)
    assert "pays off only if" in out and "measured by a probe" in out


def test_budgets_by_commas_are_planned_as_a_sweep(
    pilotfish: Command, tmp_path: Path, weak: str, strong: str
) -> None:
    words = arguments(tmp_path, weak, strong)
    words[words.index("25%")] = "10%,25%"
    _, out, _ = pilotfish(*words, "--no-probe", "--evidence", "none", "--json")
    trained = [s["name"] for s in json.loads(out)["steps"] if s["stage"] == "train"]
    assert trained == ["selected seed 0", "selected@25pct seed 0"]


def test_what_is_missing_is_named(
    pilotfish: Command, tmp_path: Path, weak: str, strong: str
) -> None:
    words = arguments(tmp_path, weak, strong)
    code, out, _ = pilotfish("plan", words[1], "--weak", weak, "--json")
    assert code == 2 and "`plan` needs --strong MODEL" in json.loads(out)["error"]
    code, out, _ = pilotfish(*words, "--no-probe", "--budget", "900rows", "--json")
    assert code == 2 and "900 rows" in json.loads(out)["error"]
    words[1] = str(tmp_path / "gone.jsonl")
    code, out, _ = pilotfish(*words, "--no-probe", "--json")
    assert code == 2 and "gone.jsonl" in json.loads(out)["error"]
