"""docs/benchmarks.md and docs/statistics.md say what the JSON files say."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.tables import TABLES, page
from benchmarks.tables.__main__ import PAGES, ROOT

RESULTS = ROOT / "benchmarks" / "results"

SPREAD = {"median": 1.5, "low": 1.4, "high": 1.625, "repeats": 3}
AGREES = {"rows": 9, "max_difference": 2e-6, "spearman": 0.99995, "overlap_top_10": 1.0}
RUN = {
    "tokens_per_second": 1234.6, "examples_per_second": 2.345, "ratio": SPREAD,
    "share_of_peak_useful": 0.803, "share_of_peak_plain": None, "start_up_seconds": 0.25,
    "agreement": AGREES, "memory": {"loaded_mib": 700, "peak_mib": 1234},
}  # fmt: skip
FACTS: dict[str, Any] = {
    "command": "python -m benchmarks.engine", "seed": 4, "commit": "0123456789abcdef+",
    "machine": {
        "cpu": "Some CPU", "flags": ["avx2"], "cores": 2, "threads": 1, "gpu": None,
        "torch": "2.0", "transformers": "5.0",
    },
    "peak_gflops": {"fp32": 1234.5, "int8": 9.0},
}  # fmt: skip
ENGINE = FACTS | {
    "rows": 40,
    "models": {
        "m": {
            "tokens": 7828,
            "padding": {"ours": 0.0, "sorted_8": 0.123},
            "absent": {"ours_int8": "no such instructions"},
            "contenders": {"one_row": RUN, "sorted_8": RUN, "ours_fp32": RUN},
        }
    },
}


def rendered(name: str, found: dict[str, Any], folder: Path) -> list[str]:
    (folder / f"{name}.json").write_text(json.dumps(found))
    text = f"before\n<!-- from {name}.json -->\nold\n<!-- end -->\nafter\n"
    lines = page(text, folder).splitlines()
    assert lines[0] == "before" and lines[-2:] == ["<!-- end -->", "after"] and "old" not in lines
    return lines


def test_the_pages_are_what_the_files_say() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        assert page(text, RESULTS) == text, "run: python -m benchmarks.tables"


def test_every_result_has_its_place_on_the_page() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    results = {path.stem for path in RESULTS.glob("*.json")}
    assert results <= TABLES.keys()
    assert all(f"<!-- from {name}.json -->" in text for name in TABLES)


def test_engine_table_by_hand(tmp_path: Path) -> None:
    lines = rendered("engine", ENGINE, tmp_path)
    assert "python -m benchmarks.engine" in lines
    assert any(line.startswith("Commit 0123456789ab with changes, seed 4; Some") for line in lines)
    assert any(line.endswith("fp32 1,234, int8 9 GFLOP/s.") for line in lines)
    end = "| 1,235 | 2.35 | 1.50 (1.40 to 1.62) | 80% | - |"
    assert f"| one row at a time, full logits {end} - | 0.2 |" in lines
    assert f"| transformers, batches of 8 by length {end} 12.3% | 0.2 |" in lines
    assert "| pilotfish, fp32 | 2.0e-06 | 0.99995 | 100% | 1,234 |" in lines
    assert "Not run: pilotfish, int8 (no such instructions)." in lines


def test_agreement_table_says_what_a_cut_costs(tmp_path: Path) -> None:
    cut = {"remeasured": 0.08, "audited": 0.03, "swapped_unaudited": 14, "swapped_audited": 0}
    int8 = AGREES | cut | {"picked": 1800, "work_again": 0.07, "net_ratio": None}
    precisions = {"int8": int8, "bf16": {"absent": "not here"}}
    found = FACTS | {"budget": "10%", "models": {"m": {"of": "shipped", "precisions": precisions}}}
    lines = rendered("agreement", found, tmp_path)
    assert "| m (shipped) | int8 | 1,800 | 14 | 0 | 8.0% | 3.0% | 7.0% | - |" in lines
    assert "Not run: bf16 with m (shipped) (not here)." in lines


def test_what_was_not_run_says_how_to_run_it(tmp_path: Path) -> None:
    text = page("<!-- from gpu.json -->\n<!-- end -->\n", tmp_path)
    assert "Not run yet: `python -m benchmarks.gpu`." in text


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"made of nothing\.json"):
        page("<!-- from nothing.json -->\n<!-- end -->\n", tmp_path)


def test_plans_stand_beside_what_was_measured(tmp_path: Path) -> None:
    score = {"predicted": 24.26, "measured": 24.93, "ratio": 0.973}
    run = {
        "planning_seconds": 21.4, "load_average": [0.21, 1.0], "kept": True,
        "machine": {"probe": {"how": "probe"}}, "stages": {"score": score}, "total": score,
    }  # fmt: skip
    found = FACTS | {"promise": 0.25, "runs": {"tiny_world": run}}
    lines = rendered("plan_accuracy", found, tmp_path)
    assert "| score | 24.3 | 24.9 | 0.97 |" in lines
    assert any(
        line.startswith("The demo's dirty world, planned in 21 s by a probe") for line in lines
    )
    assert "Promised: scoring and training within 25%; kept." in lines
