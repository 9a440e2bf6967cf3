"""A weak-to-strong experiment end to end: fair arms, withheld labels, resuming, what it prints."""

import json
from pathlib import Path
from typing import Any

import pytest

from pilotfish.cli.compare import pgr_table
from pilotfish.errors import UsageError
from pilotfish.store import Run
from pilotfish.weak_to_strong import tasks, train
from pilotfish.weak_to_strong.run import run_weak_to_strong
from tests.experiments.worlds import write
from tests.weak_to_strong.worlds import Experiment, manifest, rows

ARMS = ["naive", "sure", "self_training", "gold_half"]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return Experiment(tmp_path_factory.mktemp("w2s"))


@pytest.fixture(scope="module")
def done(experiment: Experiment) -> tuple[Run, dict[str, Any]]:
    return experiment.run()


def files(run: Run) -> dict[str, tuple[int, int]]:
    """Every file with its inode and time, those that log or are always rewritten aside."""
    aside = {"events.jsonl", "LOCK", "run.json", "report.json", "report.html"}
    found = (path for path in run.root.rglob("*") if path.is_file() and path.name not in aside)
    return {
        str(path.relative_to(run.root)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in found
        if path.name != "weak_to_strong.json"
    }


def test_the_report_holds_floor_ceiling_and_every_arm(done: tuple[Run, dict[str, Any]]) -> None:
    run, found = done
    assert [arm["name"] for arm in found["arms"]] == ARMS
    assert found["ceiling"]["mean"] > found["weak"]["mean"]
    report = run.store.read_json("report.json") or {}
    assert [arm["name"] for arm in report["weak_to_strong"]["arms"]] == ARMS
    assert {"weak", "ceiling", *ARMS} == {arm["name"] for arm in report["arms"]}
    for arm in [*ARMS, "weak", "ceiling"]:
        for seed in range(2):
            lines = (run.root / f"judge/{arm}/seed-{seed}.jsonl").read_text().splitlines()
            assert len(lines) == 20 and json.loads(lines[0])["metric"] == "exact_match"


def test_every_strong_arm_takes_the_same_steps(done: tuple[Run, dict[str, Any]]) -> None:
    run, _ = done
    strong = [manifest(run, arm, seed) for arm in [*ARMS, "ceiling"] for seed in range(2)]
    assert {facts["steps"] for facts in strong} == {25}
    assert {facts["made_from"]["model"] for facts in strong} != {
        manifest(run, "weak")["made_from"]["model"]
    }


def test_curves_end_where_the_arm_ends(done: tuple[Run, dict[str, Any]]) -> None:
    _, found = done
    by_name = {arm["name"]: arm for arm in found["arms"]}
    assert [point["step"] for point in by_name["naive"]["curve"]] == [10, 20, 25]
    # fewer than 200 test rows: the last look sees what is judged
    assert by_name["naive"]["curve"][-1] == {"step": 25, **by_name["naive"]["agreement"]}
    assert by_name["gold_half"]["curve"] == []


def test_a_filter_keeps_some_rows_and_says_how_many_of_the_labels_are_right(
    done: tuple[Run, dict[str, Any]],
) -> None:
    run, _ = done
    assert (manifest(run, "naive")["rows"], manifest(run, "sure")["rows"]) == (30, 15)
    assert 0.0 <= manifest(run, "sure")["labels_right"] <= 1.0
    assert manifest(run, "sure")["gold_rows"] == 0


def test_a_second_run_does_nothing(
    experiment: Experiment, done: tuple[Run, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, found = done
    before = files(run)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was trained or predicted again")

    monkeypatch.setattr(train, "train_model", never)
    monkeypatch.setattr(tasks.GenerationTask, "predict", never)
    assert experiment.run()[1] == found
    assert files(run) == before


class Stopped(BaseException):
    """Nothing catches it, as nothing catches kill -9."""


class StopAt:
    """A progress that ends the process, as it were, when a stage is reached."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def note(self, text: str) -> None:
        pass

    def step(self, stage: str, done: int, total: int) -> None:
        if self.stage in stage:
            raise Stopped


@pytest.mark.parametrize("stage", ["train sure seed 0", "label 30 rows by naive"])
def test_a_stopped_experiment_goes_on_to_the_same_result(
    experiment: Experiment, done: tuple[Run, dict[str, Any]], tmp_path: Path, stage: str
) -> None:
    out = tmp_path / "stopped"
    with pytest.raises(Stopped):
        run_weak_to_strong(experiment.recipe(), str(out), progress=StopAt(stage))
    assert not (out / "weak_to_strong.json").exists()
    run, found = experiment.run(out)
    assert found == done[1]
    assert manifest(run, "naive", 1) == manifest(done[0], "naive", 1)


def test_students_never_see_the_true_labels_of_their_half(
    experiment: Experiment, done: tuple[Run, dict[str, Any]], tmp_path: Path
) -> None:
    keep = {path["id"] for path in map(json.loads, _items(done[0]))}
    student = {row["id"] for row in rows(100)} - keep - _taught_weak(experiment)
    wrong = [{**row, "completion": "Z"} if row["id"] in student else row for row in rows(100)]
    data = write(tmp_path / "wrong.jsonl", wrong)
    run, _ = experiment.run(tmp_path / "run", data=data, seeds=1, controls=[], filters={})
    assert manifest(run, "weak")["model_digest"] == manifest(done[0], "weak")["model_digest"]
    assert manifest(run, "naive")["model_digest"] == manifest(done[0], "naive")["model_digest"]
    assert manifest(run, "ceiling")["model_digest"] != manifest(done[0], "ceiling")["model_digest"]


def _items(run: Run) -> list[str]:
    return (run.root / "judge/weak/seed-0.jsonl").read_text().splitlines()


def _taught_weak(experiment: Experiment) -> set[str]:
    from pilotfish.weak_to_strong.split import read_split

    return {row.id for row in read_split(experiment.recipe()).weak}


def test_rows_of_another_split_are_refused_by_name(
    experiment: Experiment, done: tuple[Run, dict[str, Any]]
) -> None:
    with pytest.raises(UsageError, match=r"another split: .*student.* changed"):
        experiment.run(rows=20)


def test_an_arm_taken_out_of_the_recipe_is_not_reported_any_more(
    experiment: Experiment, tmp_path: Path
) -> None:
    short = {"seeds": 1, "train": {"max_steps": 1, "use_peft": False}}
    run, found = experiment.run(tmp_path / "run", controls=["gold_half"], filters={}, **short)
    assert [arm["name"] for arm in found["arms"]] == ["naive", "gold_half"]
    run, found = experiment.run(tmp_path / "run", controls=[], filters={}, **short)
    assert [arm["name"] for arm in found["arms"]] == ["naive"]
    assert not (run.root / "judge/gold_half/seed-0.json").exists()
    # one step teaches nothing: the ceiling is not above the floor, and no number may be shown
    assert found["arms"][0]["pgr"]["raw"] is None
    assert "undefined (" in next(line for line in pgr_table(found) if line.startswith("naive"))
