"""report.json says what the run's files say, at whatever stage the run is."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pilotfish.errors import DamagedRun
from pilotfish.report import build, write
from pilotfish.store import Run
from tests.report import fake

VERDICT = {"outcome", "against", "metric", "difference", "low", "high", "margin", "sentence"}
ARM = {
    *("name", "rows", "tokens", "steps", "seeds", "metric"),
    *("higher_is_better", "mean", "low", "high"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fake.complete(tmp_path_factory.mktemp("report"))


def test_the_contract_holds(run: Run) -> None:
    report = build(run)
    assert {"verdict", "arms", "ledger", "warnings", "provenance"} <= set(report)
    assert set(report["verdict"]) >= VERDICT
    assert all(set(arm) >= ARM for arm in report["arms"])
    assert sorted(arm["name"] for arm in report["arms"]) == sorted(fake.ARMS)


def test_write_commits_strict_json_that_equals_build(run: Run) -> None:
    report = write(run)
    text = (run.root / "report.json").read_text(encoding="utf-8")

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    told = json.loads(text, parse_constant=refuse)
    assert len(told.pop("seal")) == 64
    assert told == report == build(run)
    assert (run.root / "report.html").stat().st_size < 200_000


def test_numbers_are_those_of_the_files(run: Run) -> None:
    report = build(run)
    selected = next(arm for arm in report["arms"] if arm["name"] == "selected")
    lines = (run.root / "judge/selected/seed-1.jsonl").read_text().splitlines()
    values = [json.loads(line)["value"] for line in lines]
    assert selected["seed_means"][1] == pytest.approx(sum(values) / len(values))
    assert selected["mean"] == pytest.approx(sum(selected["seed_means"]) / 3)
    assert (selected["rows"], selected["tokens"], selected["steps"]) == (300, 9000, 140)
    assert report["selection"]["kept"] == 300
    assert [part["rows"] for part in report["selection"]["reasons"][:1]] == [300]
    assert sum(part["rows"] for part in report["selection"]["reasons"]) == 1000
    assert report["equal_steps"] == 140


def test_arms_come_best_first_and_the_verdict_is_the_judges(run: Run) -> None:
    report = build(run)
    means = [arm["mean"] for arm in report["arms"]]
    assert means == sorted(means, reverse=True)
    assert report["verdict"]["outcome"] == "better"
    assert report["missing"] == []


def test_distributions_count_every_row_once(run: Run) -> None:
    told = build(run)["distributions"]
    scores = {group["name"]: group["rows"] for group in told["scores"]["groups"]}
    assert scores["kept"] + scores["dropped"] + told["unscorable"]["rows"] == 1000
    assert scores["random"] == 300
    assert sum(source["rows"] for source in told["sources"]) == 1000
    assert sum(source["kept"] for source in told["sources"]) == 300


def test_samples_come_from_both_sides_of_the_cut_with_their_own_text(run: Run) -> None:
    samples = build(run)["samples"]
    groups = list(dict.fromkeys(row["group"] for row in samples))
    assert groups == [
        "kept from the top", "kept at the cut", "dropped at the cut",
        "dropped, furthest from the cut", "unscorable",
    ]  # fmt: skip
    by_group = {group: [row for row in samples if row["group"] == group] for group in groups}
    assert [row["rank"] for row in by_group["kept from the top"]] == [0, 1, 2]
    assert [row["rank"] for row in by_group["kept at the cut"]] == [297, 298, 299]
    decisions = pq.read_table(run.root / "selections/selected/decisions.parquet").to_pylist()
    dropped = sorted(row["score"] for row in decisions if row["reason"] == "over_budget")
    assert [row["score"] for row in by_group["dropped at the cut"]] == dropped[:3]
    assert [row["score"] for row in by_group["dropped, furthest from the cut"]] == dropped[-3:]
    assert {row["reason"] for row in by_group["unscorable"]} == {
        "unscorable:empty_response", "unscorable:prompt_over_limit",
    }  # fmt: skip
    for row in samples:
        data = (run.root.parent / "data" / row["source"]).read_text().splitlines()
        assert json.loads(data[row["row"]])["prompt"] == row["prompt"]


def test_two_sentences_always(run: Run) -> None:
    told = [note["sentence"] for note in build(run)["notes"]]
    assert told[-2].startswith("Selection against relabel-all:")
    assert told[-1].startswith("Strong minus weak:")


def test_trusted_rows_ahead_and_random_winning_are_said_in_plain_words(tmp_path: Path) -> None:
    levels = {**fake.ARMS, "selected": 0.40, "random": 0.60, "trusted": 0.95}
    report = build(fake.complete(tmp_path, levels))
    assert report["verdict"]["outcome"] == "worse"
    assert report["verdict"]["sentence"].startswith("Random won")
    plain = [note["sentence"] for note in report["notes"] if note["plain"]]
    assert any("trusted rows alone" in sentence.lower() for sentence in plain)


def test_a_gain_that_length_explains_is_said(tmp_path: Path) -> None:
    report = build(fake.complete(tmp_path, {**fake.ARMS, "length_matched": fake.ARMS["selected"]}))
    plain = [note["sentence"] for note in report["notes"] if note["plain"]]
    assert any("random rows of the same lengths" in sentence for sentence in plain)


def test_ledger_adds_up_and_charges_the_selection(run: Run) -> None:
    ledger = build(run)["ledger"]
    stages = {stage["stage"]: stage["seconds"] for stage in ledger["stages"]}
    assert stages["score"] == 41.25
    assert ledger["total"]["seconds"] == pytest.approx(sum(stages.values()))
    assert ledger["charged"]["seconds"] == 41.25
    assert len(ledger["trained"]) == 30


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        (lambda run: run, "pilotfish score DATA"),
        (fake.scored, "pilotfish select run --method"),
        (lambda run: fake.selected(fake.scored(run)), "pilotfish train run --strong MODEL"),
    ],
    ids=["read", "scored", "selected"],
)
def test_an_untested_run_names_the_next_command(tmp_path: Path, stage, command: str) -> None:  # type: ignore[no-untyped-def]
    report = write(stage(fake.pooled(tmp_path, 60)))
    assert report["verdict"]["outcome"] == "not_tested"
    assert command in report["verdict"]["sentence"]
    assert report["verdict"]["difference"] is None
    assert report["arms"] == []


def test_a_trained_but_unjudged_run_names_judge(tmp_path: Path) -> None:
    run = fake.selected(fake.scored(fake.pooled(tmp_path, 60)))
    fake.trained(run, "selected", 0)
    report = write(run)
    assert "pilotfish evaluate run --test DATA" in report["verdict"]["sentence"]
    assert [arm["state"] for arm in report["arms"]] == ["trained, not judged"]


def test_an_interrupted_run_shows_what_is_missing(tmp_path: Path) -> None:
    arms = ("base", "random", "length_matched", "selected")
    run = fake.planned(fake.selected(fake.scored(fake.pooled(tmp_path, 60))), arms)
    fake.judged(run, "base", 0, 0.1)
    for arm in ("random", "selected"):
        fake.trained(run, arm, 0)
        fake.judged(run, arm, 0, 0.5)
    fake.trained(run, "random", 1)
    report = write(run)
    assert report["missing"] == [
        {"arm": "random", "seeds": [1], "state": "trained, not judged"},
        {"arm": "random", "seeds": [2], "state": "not trained"},
        {"arm": "length_matched", "seeds": [0, 1, 2], "state": "not trained"},
        {"arm": "selected", "seeds": [1, 2], "state": "not trained"},
    ]
    assert {arm["name"]: arm["seeds"] for arm in report["arms"]} == {
        "base": [0], "random": [0], "selected": [0],
    }  # fmt: skip
    assert report["verdict"]["outcome"] == "not_tested"
    assert any("length_matched" in text for text in report["warnings"])


def test_warnings_of_the_run_come_first_and_once(tmp_path: Path) -> None:
    run = fake.selected(fake.scored(fake.pooled(tmp_path, 60)))
    run.update(warnings=["first", "second", "first"])
    assert build(run)["warnings"][:2] == ["first", "second"]


def test_a_score_that_goes_with_length_is_warned_of(tmp_path: Path) -> None:
    run = fake.pooled(tmp_path, 60)
    fake.scored(run, values=range(60))
    report = build(fake.selected(run))
    tied = abs(report["distributions"]["lengths"]["correlation"]) >= 0.5
    assert tied == any("response length" in text for text in report["warnings"])


@pytest.mark.parametrize(("lost", "told"), [(3, False), (29, True)])
def test_many_unscorable_rows_are_warned_of(tmp_path: Path, lost: int, told: bool) -> None:
    values = [float("nan")] * lost + [float(row % 7) for row in range(30 - lost)]
    report = build(fake.selected(fake.scored(fake.pooled(tmp_path, 30), values=values), share=0.02))
    said = f"{lost / 30:.1%} of the pool could not be scored, so these rows could not be selected"
    assert (said in report["warnings"]) is told


def test_all_rows_unscorable_and_huge_scores_still_make_a_report(tmp_path: Path) -> None:
    nothing = fake.scored(fake.pooled(tmp_path / "a", 30), values=[float("nan")] * 30)
    assert write(nothing)["distributions"]["unscorable"]["rows"] == 30
    huge = fake.scored(
        fake.pooled(tmp_path / "b", 30), values=[(-1e308) ** (i % 2) for i in range(30)]
    )
    assert write(fake.selected(huge))["distributions"]["unscorable"]["rows"] == 0


def test_a_torn_event_line_is_skipped(tmp_path: Path) -> None:
    run = fake.scored(fake.pooled(tmp_path, 60))
    with (run.root / "events.jsonl").open("a") as log:
        log.write('{"kind": "cost", "stage": "tra')
    assert [stage["stage"] for stage in build(run)["ledger"]["stages"]] == ["score"]


def test_the_page_is_about_the_selection_and_not_a_control(tmp_path: Path) -> None:
    run = fake.selected(fake.scored(fake.pooled(tmp_path, 60)))
    chosen = run.section("selections")
    run.update(selections={"random-1": chosen["random-0"], "selected-1": {}, **chosen})
    selection = build(run)["selection"]
    assert selection["name"] == "selected"
    assert selection["again"] == ["selected-1"]


def test_a_stale_selection_is_warned_of(tmp_path: Path) -> None:
    run = fake.selected(fake.scored(fake.pooled(tmp_path, 60)))
    chosen = run.section("selections")
    chosen["selected"]["stale"] = ["train/selected/seed-0"]
    run.update(selections=chosen)
    assert any("train/selected/seed-0" in text for text in build(run)["warnings"])


def test_the_margin_of_the_recipe_reaches_the_verdict_and_every_comparison(tmp_path: Path) -> None:
    run = fake.complete(tmp_path)
    run.update(config={**run.section("config"), "margin": 0.25})
    report = build(run)
    margins = {row["margin"] for row in [report["verdict"], *report["comparisons"]]}
    assert margins == {0.25}


def test_the_next_step_says_how_many_rows_were_selected(tmp_path: Path) -> None:
    run = fake.selected(fake.scored(fake.pooled(tmp_path, 60)))
    assert "18 of 60 rows were selected" in build(run)["verdict"]["sentence"]


def test_a_tuned_weak_models_own_steps_are_not_held_against_the_arms(tmp_path: Path) -> None:
    run = fake.complete(tmp_path)
    fake.judged(run, "weak", 0, 0.5)
    with run.store.attempt("weak/manifest.json") as attempt:
        attempt.path("weak/model.safetensors").write_bytes(b"w")
        attempt.meta = {"made_from": {"seed": 0}, "rows": 40, "tokens": 900, "steps": 136}
    report = build(run)
    weak = next(arm for arm in report["arms"] if arm["name"] == "weak")
    assert weak["steps"] == 136
    assert report["equal_steps"] == 140
    assert not any("numbers of steps" in text for text in report["warnings"])


@pytest.mark.parametrize("victim", ["scores.parquet", "selections/selected/decisions.parquet"])
def test_nothing_is_reported_from_a_damaged_file(tmp_path: Path, victim: str) -> None:
    run = fake.selected(fake.scored(fake.pooled(tmp_path)))
    path = run.root / victim
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedRun, match=victim):
        build(run)
