"""What became of planted rows, as the report tells it: current, complete, and harmless."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pilotfish.report import build, page
from pilotfish.store import Run
from tests.report import fake
from tests.report.hostile import HOSTILE
from tests.report.parsing import active, parse

_MADE_BY = ("method", "score", "budget", "rows_digest")


def drift(mean: float, half: float | None = 0.02) -> dict[str, float | None]:
    ends = (None, None) if half is None else (mean - half, mean + half)
    return {"mean": mean, "low": ends[0], "high": ends[1]}


def told(run: Run, **changes: Any) -> dict[str, Any]:
    facts = run.section("selections")["selected"]
    attack = {"control": False, "kept": 0, "of": 20, "lift": 0.0, "low": 0.0, "high": 1.684}
    none = {"kept": 0, "of": 0, "lift": None, "low": None, "high": None}
    return {
        "selection": "selected", "method": facts["method"], "share": 0.1, "together": False,
        "attacks": [
            {"attack": "unchanged", **attack, "control": True, "kept": 2, "lift": 1.0},
            {"attack": "judge_bait", **attack},
            {"attack": "flipped_labels", **attack, **none},
        ],
        "injection": {"bait": drift(0.031), "benign": drift(0.029), "excess": drift(0.002, None)},
        "made_from": {"selection": {key: facts.get(key) for key in _MADE_BY}, "planted": "x"},
        **changes,
    }  # fmt: skip


def keep(run: Run, found: dict[str, Any]) -> None:
    with run.store.attempt(f"canaries/{found['selection']}.json") as attempt:
        attempt.path(f"canaries/{found['selection']}.jsonl").write_text("")
        attempt.meta = found


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fake.complete(tmp_path_factory.mktemp("once"))


@pytest.fixture
def run(tmp_path: Path, once: Run) -> Run:
    return Run(shutil.copytree(once.root, tmp_path / "run"))


def section(run: Run) -> str:
    text = page(build(run), run)
    return text[text.index('id="canaries"') :].partition("</section>")[0]


def test_lifts_counts_and_drift_stand_in_the_page(run: Run) -> None:
    keep(run, told(run))
    shown = " ".join(section(run).split())
    assert "unchanged (control)" in shown and "judge bait<" in shown
    assert ">0.00</" in shown and ">1.68</" in shown
    assert "not possible with these rows" in shown
    assert "+3.1 points" in shown and "+2.9 points" in shown and "no interval" in shown
    assert '<a href="#canaries">' in page(build(run), run)


def test_the_report_holds_the_numbers_and_no_bookkeeping(run: Run) -> None:
    keep(run, told(run))
    (one,) = build(run)["canaries"]
    assert one["attacks"][1]["high"] == 1.684
    assert not {"files", "made_from"} & {*one}


def test_there_is_no_section_where_nothing_was_planted(run: Run) -> None:
    assert "canaries" not in build(run)
    assert "Canary rows" not in page(build(run), run)


def test_lifts_of_another_selection_are_not_shown(run: Run) -> None:
    found = told(run)
    found["made_from"]["selection"]["rows_digest"] = "of another"
    keep(run, found)
    assert "canaries" not in build(run)


def test_why_there_are_none_is_said(run: Run) -> None:
    keep(run, {**told(run), "why": "it reads no score"})
    assert "not measured: it reads no score" in section(run)


@pytest.mark.parametrize("text", HOSTILE[::7])
def test_hostile_methods_and_reasons_are_text(run: Run, text: str) -> None:
    before = active(parse(page(build(run), run)))
    keep(run, told(run, method=text))
    assert active(parse(page(build(run), run))) == before
    keep(run, told(run, method=text, why=text))
    assert active(parse(page(build(run), run))) == before
