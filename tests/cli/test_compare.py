"""`pilotfish compare`: what it takes, what it refuses, and the table it prints."""

import json
from pathlib import Path
from typing import Any

import pytest

from pilotfish.cli.compare import pgr_table
from tests.cli.conftest import Command, pairs, write_jsonl


def recipe(folder: Path, weak: str, strong: str, **changes: Any) -> Path:
    train = {"max_steps": 1, "use_peft": False, "max_length": 32}
    whole = {
        "experiment": "weak_to_strong", "weak": weak, "strong": strong, "seeds": 1,
        "data": write_jsonl(folder / "d.jsonl", pairs(40)), "validation_rows": 0, "test_rows": 4,
        "weak_rows": 8, "rows": 8, "controls": [], "weak_train": train, "train": train,
    }  # fmt: skip
    path = folder / "r.yaml"
    path.write_text(json.dumps({**whole, **changes}))
    return path


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("runs/a", "", "alone is nothing to compare"),
        ("r.yaml", "data: d.jsonl", "the recipe lacks 'weak'"),
        ("r.yaml", "experiment: magic", "no experiment is called 'magic'"),
        ("r.yaml", "experiment: weak_to_strong", "lacks 'data'"),
    ],
)
def test_anything_but_such_a_recipe_is_refused_in_words(
    tmp_path: Path, pilotfish: Command, name: str, text: str, said: str
) -> None:
    path = tmp_path / name
    if text:
        path.write_text(text)
    code, out, err = pilotfish("compare", path, "--json")
    assert code == 2 and said in err and json.loads(out)["exit"] == 2


def test_a_weak_model_that_cannot_label_ends_with_its_reason(
    tmp_path: Path, pilotfish: Command, weak: str, strong: str
) -> None:
    path = recipe(tmp_path, weak, strong)
    code, _, err = pilotfish("compare", path, "--out", tmp_path / "run", "--quiet")
    assert code == 3 and "no row is left to teach the arm 'naive'" in err


def pgr(raw: float | None, why: str = "") -> dict[str, Any]:
    reach = {"low": None, "high": None} if raw is None else {"low": raw - 0.1, "high": raw + 0.1}
    return {"raw": raw, **reach, "defined": raw is not None, "why": why}


def test_the_table_says_undefined_and_why_in_the_place_of_a_number() -> None:
    rung = {"mean": 0.7, "low": 0.68, "high": 0.72}
    arms = [
        {"name": "naive", **rung, "pgr": pgr(0.75)},
        {"name": "logconf", **rung, "pgr": pgr(None, "the interval of the gap covers 0")},
    ]
    found = {"metric": "accuracy", "seeds": 3, "items": 500, "weak": rung, "ceiling": rung,
             "arms": arms, "alarms": ["look out"]}  # fmt: skip
    lines = pgr_table(found)
    assert lines[0] == "accuracy on 500 rows, 3 seeds, 95% intervals"
    assert lines[2].split() == ["weak", "(floor)", "0.700", "[0.680,", "0.720]"]
    assert lines[4].endswith("0.750 [0.650, 0.850]")
    assert lines[5].endswith("undefined (the interval of the gap covers 0)")
    assert lines[6] == "note: look out"
