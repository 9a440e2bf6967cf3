"""The benchmark of selection at size: contenders agree on small data, and its table by hand."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.geometry import NAMES, cases, texts, vectors
from benchmarks.geometry_peers import peers
from benchmarks.tables.geometry import lines


def test_contenders_agree(tmp_path: Path) -> None:
    vectors(tmp_path / "v.npy", 600, 0)
    rows = np.load(tmp_path / "v.npy")
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    answers = {}
    for task, contest in peers(rows, texts(600, 0), 0).items():
        for contender in contest.values():
            contender.run()
        answers[task] = {name: contender.answer for name, contender in contest.items()}
    assert {"k_centre", "facility_location", "near_duplicates"} <= answers.keys()
    for task, found in answers.items():
        away = 0.01 if task in ("k_centre", "near_duplicates") else 0.1
        assert list(found.values()) == pytest.approx([found["ours"]] * len(found), rel=away), task


def test_every_case_runs(tmp_path: Path) -> None:
    vectors(tmp_path / "v.npy", 400, 1)
    found = {name: run() for name, run in cases(np.load(tmp_path / "v.npy"), 1).items()}
    assert set(found) < set(NAMES) and all(found.values())


def test_table_by_hand() -> None:
    run = {"seconds": 1.25, "peak_mib": 2000}
    spread = {"median": 2.0, "low": 1.5, "high": 2.5}
    beside = {"seconds": 4.0, "ours_seconds": 2.0, "ratio": spread, "answer": 7, "ours_answer": 8}
    found = {
        "width": 384,
        "rows": {"1000": {"k_centre": run}, "2000": {"k_centre": run | {"peak_mib": 3000}}},
        "paired": {"rows": 1000, "k_centre": {"plain": beside}},
        "libraries": {"faiss-cpu": "1.0", "rensa": None},
    }
    page = list(lines(found))
    assert "| k_centre | 1.2 | 1.2 | 3,000 |" in page
    assert "| k_centre | plain | 4.00 | 2.00 | 2.00 (1.50 to 2.50) | 7 | 8 |" in page
    assert page[-2].endswith("faiss-cpu 1.0.")
