"""Weak-to-strong experiments on answers: voted labels, stopping rules, and kills inside an arm."""

from pathlib import Path
from typing import Any

import pytest

from pilotfish.errors import UsageError
from pilotfish.weak_to_strong.train import CurveRecorder
from tests.weak_to_strong.worlds import TRAIN, Experiment, manifest

SHORT: dict[str, Any] = {"seeds": 1, "filters": {}, "controls": []}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return Experiment(tmp_path_factory.mktemp("ways"))


def test_voted_labels_abstain_where_samples_disagree(
    experiment: Experiment, tmp_path: Path
) -> None:
    labels = {"kind": "consistency", "samples": 3, "temperature": 0.8, "abstain": 0.7}
    run, _ = experiment.run(tmp_path / "run", **SHORT | {"labels": labels})
    facts = manifest(run, "naive")
    # three samples that do not all agree share at most two thirds
    assert facts["rows"] == 30 - facts["abstained"] - facts["unlabelled"]
    assert facts["abstained"] > 0


def test_kept_steps_are_those_where_held_out_rows_cost_least(
    experiment: Experiment, tmp_path: Path
) -> None:
    train = {**TRAIN, "stop_every": 5}
    changes = {"stopping": ["honest", "oracle"], "train": train}
    run, found = experiment.run(tmp_path / "run", **SHORT | changes)
    for name, by in (("stop_honest", "weak"), ("stop_oracle", "gold")):
        facts = manifest(run, name)
        assert (facts["stopped_by"], facts["steps"]) == (by, 25)
        assert facts["kept_step"] % 5 == 0
    assert [arm["name"] for arm in found["arms"] if arm["oracle"]] == ["stop_oracle"]


def test_stopping_needs_validation_rows(experiment: Experiment) -> None:
    with pytest.raises(UsageError, match="set validation_rows above 0"):
        experiment.recipe(stopping=["honest"], validation_rows=0)


def test_an_arm_killed_inside_goes_on_from_its_checkpoint_with_its_curve(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = SHORT | {"train": {**TRAIN, "save_steps": 5}, "looks": 4}
    whole, found = experiment.run(tmp_path / "whole", **changes)

    class Killed(BaseException):
        pass

    steps: list[int] = []
    predict = CurveRecorder._predict

    def predict_or_die(self: Any, step: int, model: Any) -> None:
        steps.append(step)
        if len(steps) == 3:
            raise Killed
        predict(self, step, model)

    monkeypatch.setattr(CurveRecorder, "_predict", predict_or_die)
    with pytest.raises(Killed):
        experiment.run(tmp_path / "killed", **changes)
    assert list((tmp_path / "killed/train/naive/seed-0").glob("ckpt-*"))
    steps.clear()
    steps += [0, 0, 0]  # never again
    run, again = experiment.run(tmp_path / "killed", **changes)
    assert min(steps[3:]) > 5  # the first steps were not repeated
    assert again == found
    assert manifest(run, "naive")["model_digest"] == manifest(whole, "naive")["model_digest"]
    assert not list((tmp_path / "killed/train").rglob("looks-so-far.json"))
