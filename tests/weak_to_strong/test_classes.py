"""A weak-to-strong experiment on texts with classes: every loss, filter and way to stop at once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pilotfish.config import make_weak_to_strong
from pilotfish.errors import UsageError
from pilotfish.store import Run
from pilotfish.weak_to_strong.run import run_weak_to_strong
from tests.experiments.worlds import write
from tests.tiny.encoders import tiny_encoder
from tests.weak_to_strong.worlds import manifest

TRAIN = {"max_steps": 24, "use_peft": False, "learning_rate": 1e-2, "max_length": 16,
         "per_device_train_batch_size": 8}  # fmt: skip
LOSSES = {"confident": "logconf", "product": "product"}
FILTERS = {"near": "knn(k=5, keep=0.6)", "trusted": "trust(keep=0.6, gold=20)"}


def texts(count: int) -> list[dict[str, str]]:
    """Many a's or many b's, of one to nine letters, each text once."""
    letters = (("a", "few"), ("b", "many"))
    return [
        {
            "id": f"r{i}",
            "text": f"{letters[i % 2][0] * (1 + i % 9)} {i}",
            "label": letters[i % 2][1],
        }
        for i in range(count)
    ]


class Classes:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = write(folder / "rows.jsonl", texts(200))
        self.weak = str(tiny_encoder(folder / "weak", "bert"))
        self.strong = str(tiny_encoder(folder / "strong", "distilbert"))

    def run(self, out: str, **changes: Any) -> tuple[Run, dict[str, Any]]:
        settings = {
            "experiment": "weak_to_strong", "data": self.data, "weak": self.weak,
            "strong": self.strong, "seeds": 2, "weak_rows": 30, "rows": 30, "validation_rows": 60,
            "test_rows": 30, "looks": 2, "weak_train": TRAIN | {"max_steps": 3}, "train": TRAIN,
        }  # fmt: skip
        recipe = make_weak_to_strong({**settings, **changes})
        return Run(self.folder / out), run_weak_to_strong(recipe, str(self.folder / out))


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Classes:
    return Classes(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def done(classes: Classes) -> tuple[Run, dict[str, Any]]:
    stopping = ["honest", "oracle"]
    return classes.run("run", losses=LOSSES, filters=FILTERS, stopping=stopping)


def test_every_arm_is_judged_by_accuracy(done: tuple[Run, dict[str, Any]]) -> None:
    run, found = done
    names = [arm["name"] for arm in found["arms"]]
    assert names == ["naive", *LOSSES, *FILTERS, "stop_honest", "stop_oracle", "self_training",
                     "gold_half"]  # fmt: skip
    assert found["metric"] == "accuracy"
    assert all(0.0 <= arm["mean"] <= 1.0 and arm["ece"] is not None for arm in found["arms"])
    items = (run.root / "judge/naive/seed-1.jsonl").read_text().splitlines()
    assert {json.loads(line)["expected"] for line in items} == {"few", "many"}
    right = np.mean([json.loads(line)["value"] for line in items])
    seeds = run.store.read_json("report.json") or {}
    shown = next(arm for arm in seeds["arms"] if arm["name"] == "naive")["seed_means"]
    assert shown[1] == pytest.approx(right)


def test_filters_are_charged_for_the_true_labels_they_use(
    done: tuple[Run, dict[str, Any]],
) -> None:
    shown = {arm["name"]: arm["gold_rows"] for arm in done[1]["arms"]}
    assert (shown["naive"], shown["near"], shown["trusted"]) == (0, 0, 60)
    assert (shown["stop_honest"], shown["stop_oracle"]) == (0, 60)
    assert {manifest(done[0], name)["rows"] for name in FILTERS} == {18}


def test_stopping_changes_what_is_kept_and_names_its_oracle(
    done: tuple[Run, dict[str, Any]],
) -> None:
    run, found = done
    arms = {arm["name"]: arm for arm in found["arms"]}
    assert [arms[name]["oracle"] for name in ("naive", "stop_honest", "stop_oracle")] == [
        False, False, True,
    ]  # fmt: skip
    assert any(note.startswith("stop_oracle is an oracle") for note in found["alarms"])
    for name in ("stop_honest", "stop_oracle"):
        facts = manifest(run, name)
        assert facts["steps"] == 24
        assert facts["kept_step"] in range(25)
    assert arms["naive"]["kept_steps"] is None


def test_hard_labels_are_refused_to_losses_that_want_probabilities(classes: Classes) -> None:
    with pytest.raises(UsageError, match="'confident' learns from probabilities"):
        classes.run("hard", labels={"kind": "hard"}, losses=LOSSES)
    with pytest.raises(UsageError, match=r"labels\.kind is consistency"):
        classes.run("voted", labels={"kind": "consistency"})
    assert not (classes.folder / "hard" / "train").exists()


def test_hard_labels_teach_the_likeliest_class(
    classes: Classes, done: tuple[Run, dict[str, Any]]
) -> None:
    run, _ = classes.run("hard", labels={"kind": "hard"}, seeds=1, controls=[])
    assert manifest(run, "naive")["made_from"]["loss"] == "lm"
    assert manifest(run, "naive")["labels_right"] == manifest(done[0], "naive")["labels_right"]


def test_labels_below_the_least_confidence_are_not_taught(
    classes: Classes, done: tuple[Run, dict[str, Any]]
) -> None:
    labels = pq.read_table(done[0].root / "labels/weak/seed-0-student.parquet")["confidence"]
    least = float(np.median(labels.to_numpy()))
    run, _ = classes.run("unsure", labels={"abstain": least}, seeds=1, controls=[])
    facts = manifest(run, "naive")
    assert facts["rows"] == int((labels.to_numpy() >= least).sum()) == 30 - facts["abstained"]
    assert 0 < facts["abstained"] < 30
