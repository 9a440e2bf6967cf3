"""What the verdict brings along in report.json, and references of gates in other runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from pilotfish.errors import UsageError
from pilotfish.report import build
from pilotfish.store import Run
from tests.report import fake

BEYOND = {"curve", "equal", "gates", "tasks", "macro", "chosen"}
LEVELS = {"base": 0.2, "full": 0.6, "selected": 0.7, "random": 0.5, "length_matched": 0.5}
SWEPT = {"selected@10pct": 0.6, "random@10pct": 0.4}


def run_of(folder: Path, levels: dict[str, float], **sections: dict[str, Any]) -> Run:
    """A judged run without text: only what the verdict reads."""
    run = Run(folder / "run")
    rows = 1000
    run.update(
        status="complete", pool={"rows": rows, "quarantined": 0, "dropped": 0},
        weak={"name": "models/weak", "parameters": 1_000_000},
        selections={"selected": {"delivered": 300, "stale": []}},
        test={"rows": 400, "held_out": "test", "metric": "exact_match"},
        **{"evidence": {"level": "full", "seeds": [0, 1, 2], "arms": list(levels)},
           "config": {"budget": "30%"}, **sections},
    )  # fmt: skip
    run.cost("score", "perplexity", seconds=30.0, rows=rows)
    for arm, level in levels.items():
        for seed in fake.SEEDS[: 1 if arm == "base" else None]:
            if arm != "base":
                fake.trained(run, arm, seed, rows=100 if "10pct" in arm else 300)
            fake.judged(run, arm, seed, level)
    return run


def findings_of(run: Run) -> dict[str, Any]:
    from pilotfish.report.arms import read_arms
    from pilotfish.report.verdict import findings

    return findings(run, read_arms(run))


def test_a_plain_run_has_the_tests_and_the_recovery_and_none_of_the_sections(
    tmp_path: Path,
) -> None:
    told = findings_of(run_of(tmp_path, LEVELS))
    verdict = told["verdict"]
    assert verdict["outcome"] == "better" and 0 < verdict["p_seeds"] < verdict["p"] < 0.05
    assert [pair["seed"] for pair in verdict["seed_pairs"]] == [0, 1, 2]
    assert verdict["recovery"]["value"] == pytest.approx((0.7 - 0.2) / (0.6 - 0.2), abs=0.15)
    assert "efficiency" not in verdict and not BEYOND & set(told)
    # 300 of 1,000 rows in 12.5 s, so all of them in 41.7 s, and 30 s of scoring
    assert told["break_even"]["needed"] == pytest.approx(30 / (12.5 * 1000 / 300))


def test_a_sweep_adds_what_the_rows_are_worth(tmp_path: Path) -> None:
    plan = {"level": "full", "seeds": [0, 1, 2], "arms": ["selected"],
            "budgets": {"": "30%", "10pct": "10%"}}  # fmt: skip
    told = findings_of(run_of(tmp_path, LEVELS | SWEPT, evidence=plan))
    line = next(one for one in told["curve"]["efficiency"] if one["arm"] == "selected")
    assert told["verdict"]["efficiency"] == line
    assert "No number of random rows that was tried (at most 300)" in told["break_even"]["sentence"]


def test_a_method_that_was_chosen_is_told_on_the_items_that_did_not_choose_it(
    tmp_path: Path,
) -> None:
    plan = {"level": "full", "seeds": [0, 1, 2], "arms": ["selected"], "method_selection": "split",
            "budgets": {"": "30%", "10pct": "10%"}, "methods": {"ifd": "ifd"},
            "method": "perplexity"}  # fmt: skip
    told = findings_of(run_of(tmp_path, {**LEVELS, **SWEPT, "ifd": 0.9}, evidence=plan))
    assert told["chosen"]["method"] == told["verdict"]["arm"] == "ifd"
    assert (told["recommendation"]["choice"], told["recommendation"]["arm"]) == ("selected", "ifd")
    assert told["recommendation"]["rivals"][0]["difference"] == told["verdict"]["difference"]
    assert "efficiency" not in told["verdict"]  # of another method, and on all items


def test_a_run_that_was_not_judged_has_the_keys_of_a_verdict_and_no_more(tmp_path: Path) -> None:
    told = build(fake.planned(fake.selected(fake.scored(fake.pooled(tmp_path, 60)))))
    assert told["verdict"]["outcome"] == "not_tested"
    assert not {*BEYOND, "recommendation", "break_even"} & set(told)


def gated(folder: Path, against: Path, arm: str = "") -> Run:
    gates = {"kept": {"against": f"{against}{arm}", "margin": 0.05}}
    return run_of(folder, LEVELS, config={"budget": "30%", "gates": gates})


@pytest.mark.parametrize(
    ("arm", "outcome"), [("", "fail"), (":random", "pass"), (":selected", "fail")]
)
def test_a_gate_on_another_run(tmp_path: Path, arm: str, outcome: str) -> None:
    other = run_of(tmp_path / "other", {"selected": 0.95, "random": 0.3})
    (gate,) = findings_of(gated(tmp_path, other.root, arm))["gates"]
    assert (gate["outcome"], gate["against"]) == (outcome, f"{other.root}{arm}")


@pytest.mark.parametrize("key", ["test_fingerprint", "metric"])
def test_another_run_that_answered_other_questions_is_refused(tmp_path: Path, key: str) -> None:
    other = run_of(tmp_path / "other", {"selected": 0.95})
    for path in other.root.glob("judge/selected/seed-*.json"):
        manifest = str(path.relative_to(other.root))
        meta = {**other.store.require(manifest), key: "other"}
        lines = path.with_suffix(".jsonl").read_text()
        with other.store.attempt(manifest) as attempt:
            attempt.path(manifest.replace(".json", ".jsonl")).write_text(lines)
            attempt.meta = {name: value for name, value in meta.items() if name != "files"}
    with pytest.raises(UsageError, match="with another metric or on other rows"):
        findings_of(gated(tmp_path, other.root))


def test_a_folder_without_judged_arms_is_no_reference(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run with evaluated arms"):
        findings_of(gated(tmp_path, tmp_path / "nothing"))


def test_everything_is_strict_json(tmp_path: Path) -> None:
    told = findings_of(run_of(tmp_path, LEVELS | SWEPT))
    assert json.loads(json.dumps(told, allow_nan=False)) == told
