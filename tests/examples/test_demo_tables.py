"""The tables of docs/results.md are made from a demo's files, and say what those say."""

import json
from pathlib import Path
from typing import Any

from tests.examples.test_tinystories import EXAMPLES, load_file

tables = load_file(EXAMPLES.parent / "benchmarks" / "demo_tables.py")


def demo(folder: Path) -> Path:
    truth = [
        {"id": "a", "task": "add", "noise": "", "right": True},
        {"id": "b", "task": "add", "noise": "slip", "right": False},
        {"id": "c", "task": "sort", "noise": "", "right": True},
        {"id": "d", "task": "sort", "noise": "", "right": True},
    ]
    write(folder / "world/truth.jsonl", truth)
    for name, ids in {"selected": "ac", "selected-1": "cd", "random-0": "ab"}.items():
        write(folder / f"run/selections/{name}/selected.jsonl", [{"id": id} for id in ids])
    arm = {"rows": 2, "seeds": [0, 1], "low": None, "high": None}
    pair: dict[str, Any] = {"arm": "selected", "difference": -0.25, "low": -0.5, "high": 0.0}
    report = {
        "arms": [{"name": "random", "mean": 0.25, **arm}, {"name": "selected", "mean": 0.5, **arm}],
        "verdict": {**pair, "against": "random", "outcome": "undecided", "sentence": "Undecided."},
        "comparisons": [{**pair, "against": "full", "outcome": "worse", "p_holm": 0.012345}],
        "ledger": {"stages": [{"stage": "train", "seconds": 1.26, "flops": None}]},
    }
    (folder / "run/report.json").write_text(json.dumps(report))
    return folder


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_tables_say_what_the_files_say(tmp_path: Path) -> None:
    lines = "\n".join(tables.chapter(demo(tmp_path))).splitlines()
    assert lines[0] == "Noise: none 75%, slip 25%" and "Undecided." in lines
    assert lines.index("| `selected` | 2 | 2 | 0.500 | - |") < lines.index(
        "| `random` | 2 | 2 | 0.250 | - |"
    )
    assert "| `selected` - `random` | -0.250 | -0.500 to +0.000 | - | undecided |" in lines
    assert "| `selected` - `full` | -0.250 | -0.500 to +0.000 | 0.012 | worse |" in lines
    assert "| the pool | 0.750 | 50% | 50% |" in lines
    assert "| `selected` | 1.000 | 25% | 75% |" in lines
    assert "| `random` | 0.500 | 100% | 0% |" in lines
    assert "| train | 1.3 | - |" in lines
