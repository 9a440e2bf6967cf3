"""The report says how the scores were computed, and what was done about a fast number format."""

import json
from pathlib import Path
from typing import Any

import pytest

from pilotfish.report import build, page, write
from pilotfish.report.scoring import scoring_lines
from pilotfish.store import Run
from tests.report import fake
from tests.report.hostile import HOSTILE
from tests.report.parsing import active, parse
from tests.report.test_page import replaced


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("scoring")
    return fake.fast(fake.selected(fake.scored(fake.pooled(folder, 1000))))


@pytest.fixture(scope="module")
def told(run: Run) -> dict[str, Any]:
    return dict(build(run)["scoring"])


def test_the_facts_are_those_of_the_runs_files(told: dict[str, Any]) -> None:
    assert (told["precision"], told["asked"], told["batching"]) == ("int8", "auto", ["packed"])
    assert (told["device"], told["threads"], told["token_budget"]) == ("cpu", 2, 2048)
    assert (told["parts"], told["halved"]) == (2, 1)
    assert told["remeasured"] == 390
    assert told["agreement"]["spearman"] == 0.99995


def test_the_audit_is_told_in_its_own_sentences(told: dict[str, Any]) -> None:
    [audit] = told["audits"]
    assert audit["selection"] == "selected" and audit["bound"] == 0.00994
    text = " ".join(told["sentences"])
    assert "90 of 1,000 rows (9.0%) were re-measured in fp32 outward from the cut" in text
    assert "Of 300 random rows elsewhere, 0 flipped: with 95% confidence" in text


def test_the_page_has_the_panel_and_never_says_certified(run: Run) -> None:
    report = write(run)
    text = (run.root / "report.html").read_text(encoding="utf-8")
    said = "".join(parse(text).text)
    assert "How the scores were computed" in said
    for sentence in report["scoring"]["sentences"]:
        assert sentence in said
    assert "390 of 1,000 rows" in said
    assert "rank correlation 0.99995" in said
    assert "1 of 2 parts ran out of memory" in said
    assert "certified" not in text.lower()
    assert "audited_cut" not in said  # the facts stand in report.json


def test_provenance_keeps_the_section_and_json_is_strict(run: Run) -> None:
    assert build(run)["provenance"]["precision"] == run.section("precision")
    json.dumps(build(run), allow_nan=False)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_in_the_panel_changes_no_node(run: Run, text: str) -> None:
    report = build(run)
    panel = {"scoring": replaced(report["scoring"], text)}
    hostile, plain = (parse(page(each, run)) for each in ({**report, **panel}, report))
    assert active(hostile) == []
    assert hostile.nodes == plain.nodes


@pytest.mark.parametrize(
    ("batching", "word"), [("padded", "not safe"), ("packed", "without padding")]
)
def test_batches_are_named(tmp_path: Path, batching: str, word: str) -> None:
    run = fake.selected(fake.scored(fake.pooled(tmp_path, 60)))
    told = build(fake.fast(run, batching=batching))["scoring"]
    assert word in dict(scoring_lines(told))["Batches"]


def test_scores_of_fp32_claim_no_agreement_and_no_audit(tmp_path: Path) -> None:
    run = fake.fast(fake.selected(fake.scored(fake.pooled(tmp_path, 60))))
    scores, selections = run.section("scores"), run.section("selections")
    scores[fake.SCORE]["precision"] = "fp32"
    del selections["selected"]["audit"]
    run.update(scores=scores, selections=selections)
    told = build(run)["scoring"]
    assert (told["agreement"], told["remeasured"], told["sentences"]) == (None, None, [])
    assert "Agreement with fp32" not in dict(scoring_lines(told))
    assert "Rows near the cut" not in page(build(run), run)


def test_several_audited_selections_stand_in_a_table(run: Run, tmp_path: Path) -> None:
    two = fake.fast(fake.selected(fake.scored(fake.pooled(tmp_path, 60))))
    selections = two.section("selections")
    two.update(selections={**selections, "selected-1": selections["selected"]})
    assert "All selections made from fast scores" in page(build(two), two)
    assert "All selections made from fast scores" not in page(build(run), run)


def test_a_run_without_measurements_has_no_panel(tmp_path: Path) -> None:
    for steps in ([], [fake.scored], [fake.scored, fake.selected]):
        run = fake.pooled(tmp_path / str(len(steps)), 40)
        for step in steps:
            step(run)
        assert build(run)["scoring"] is None
        assert "How the scores were computed" not in page(build(run), run)
