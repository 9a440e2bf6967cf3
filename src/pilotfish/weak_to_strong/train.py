"""Train the arms of a weak-to-strong experiment: one model per arm and seed, in equal steps."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.arms.training_data import POOL, ClassTargets, TrainingData
from pilotfish.data.run_pool import fingerprint
from pilotfish.errors import DamagedRun, DataError
from pilotfish.experiments.train import (
    CHANGE_NOTHING,
    TrainingJob,
    forget_checkpoints,
    is_trained,
    train_folder,
    train_model,
)
from pilotfish.labeling.filters import Candidates, make_filter
from pilotfish.labeling.table import ABSTAINED, FAILED, OK, Labels
from pilotfish.records import Example, Floats, Ints, Turn
from pilotfish.weak_to_strong.experiment import WEAK, W2SArm, W2SExperiment
from pilotfish.weak_to_strong.tasks import Predictions, is_correct

if TYPE_CHECKING:
    from pilotfish.models import Loaded
    from pilotfish.training.validation import StepCallback

CURVE = "looks.json"  # in the folder of a model: step -> predictions of the curve's rows


@dataclass(frozen=True)
class TrainingSet:
    """Rows with the labels to learn: their own, or those of a model.

    Attributes:
        rows: [n] rows.
        probs: [n, K] probabilities of the classes, if labels are soft.
    """

    rows: Sequence[Example]
    probs: Floats | None = None

    @property
    def digests(self) -> tuple[str, str]:
        """Digests of the rows with their labels, and of the probabilities."""
        probs = b"" if self.probs is None else np.ascontiguousarray(self.probs).tobytes()
        return fingerprint(self.rows), hashlib.sha256(probs).hexdigest()


@dataclass(frozen=True)
class ArmData:
    """The data of one arm.

    Attributes:
        training: Rows to train on.
        validation: Held-out rows that choose the step that is kept, by the source of their labels:
            "weak" and "gold"; empty: the last step is kept.
        facts: Fields for the manifest.
    """

    training: TrainingSet
    validation: Mapping[str, TrainingSet] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def train_w2s_arm(experiment: W2SExperiment, arm: W2SArm, seed: int) -> None:
    """Train one arm with one seed into train/<arm>/seed-<n>/, or reuse an intact model.

    Raises:
        DataError: The labelling model leaves no row to learn.
    """
    run, data = experiment.ctx.run, arm_data(experiment, arm, seed)
    made_from = _made_from(experiment, arm, seed, data)
    recorder = CurveRecorder(experiment, arm, seed, made_from)
    if not is_trained(run, arm.name, seed, made_from):
        job = _training_job(experiment, arm, seed, data, made_from)
        train_model(experiment.ctx, replace(job, recorder=recorder))
    forget_checkpoints(run, train_folder(arm.name, seed))
    recorder.clear()


def arm_data(experiment: W2SExperiment, arm: W2SArm, seed: int) -> ArmData:
    """Collect the rows and labels of an arm.

    Raises:
        DataError: The labelling model leaves no row to learn.
    """
    split = experiment.split
    if not arm.teacher:
        return ArmData(TrainingSet(split.weak if arm.half == "weak" else split.student))
    predictions, labels = weak_labels(experiment, arm.teacher, seed, "student")
    facts: dict[str, Any] = {
        "labelled_by": arm.teacher,
        "unlabelled": labels.counts[FAILED],
        "abstained": labels.counts[ABSTAINED],
        "gold_rows": 0,  # number of true labels that the arm is charged for
    }
    usable, validation = labels.ok, dict[str, TrainingSet]()
    if arm.filter:
        candidates = Candidates(labels, predictions.states)
        if split.validation:  # a filter may learn from rows whose answers are known
            known, known_labels = weak_labels(experiment, WEAK.name, seed, "validation")
            correct = is_correct(split.validation, known.label)
            candidates = Candidates(labels, predictions.states, known_labels, known.states, correct)
        label_filter = make_filter(arm.filter)
        usable = usable & label_filter.apply(candidates).kept
        about = label_filter.facts(candidates)
        facts |= {"filter": arm.filter, "filtered": about}
        facts["gold_rows"] = len(split.validation) if "gold_rows" in about else 0
    if not usable.any():
        raise _no_labels(arm, labels)
    if arm.stop:
        held_out, held_labels = weak_labels(experiment, WEAK.name, seed, "validation")
        if not held_labels.ok.any():
            raise _no_labels(arm, held_labels)
        pairs = zip(split.validation, held_labels.ok, strict=True)
        validation = {
            "weak": _relabelled(experiment, split.validation, held_out, held_labels.ok),
            "gold": TrainingSet([row for row, ok in pairs if ok]),
        }
        facts |= {"oracle": arm.is_oracle}
        facts["gold_rows"] = len(validation["gold"].rows) if arm.is_oracle else 0
    facts["labels_right"] = float(is_correct(split.student, predictions.label)[usable].mean())
    training = _relabelled(experiment, split.student, predictions, usable)
    return ArmData(training, validation, facts)


def weak_labels(
    experiment: W2SExperiment, arm: str, seed: int, part: Literal["student", "validation"]
) -> tuple[Predictions, Labels]:
    """Label a part of the rows with the model of an arm.

    Args:
        experiment: Rows, models and settings.
        arm: Arm of the labelling model.
        seed: Number of the seed.
        part: Which rows.

    Returns:
        The predictions, and the labels made of them; labels below `labels.abstain` are set aside.
    """
    rows, recipe = getattr(experiment.split, part), experiment.recipe
    found, n = experiment.cached_predictions(arm, seed, part), len(rows)
    labels = Labels(
        ids=np.array([row.id for row in rows], dtype=object),
        label=found.label,
        status=np.where(found.reason == "", OK, FAILED).astype(object),
        reason=found.reason,
        confidence=found.confidence,
        round=np.zeros(n, dtype=np.int64),
        fold=np.full(n, -1, dtype=np.int64),
        by=np.full(n, experiment.model_digest(arm, seed), dtype=object),
        classes=experiment.task.classes,
        probs=None if found.log_probs is None else np.exp(found.log_probs),
        consistency=found.confidence if experiment.label_kind == "consistency" else None,
    )
    if recipe.labels.abstain is None:
        return found, labels
    with np.errstate(invalid="ignore"):
        unsure = ~(labels.confidence >= recipe.labels.abstain)
    return found, labels.set_aside(unsure, ABSTAINED, "confidence below labels.abstain")


def _no_labels(arm: W2SArm, labels: Labels) -> DataError:
    counts = Counter(str(reason) for reason in labels.reason if reason).most_common(3)
    why = "; ".join(f"{reason} ({count:,})" for reason, count in counts)
    return DataError(
        f"no row is left to teach the arm '{arm.name}': {why or 'the filter kept none'}",
        hint="train the weak model longer (weak_train), filter less, or lower labels.abstain",
    )


def _relabelled(
    experiment: W2SExperiment,
    rows: Sequence[Example],
    predictions: Predictions,
    usable: NDArray[np.bool_],
) -> TrainingSet:
    """Replace the answers of the usable rows by a model's; nothing of the true answers is left."""
    indices, relabelled = np.flatnonzero(usable).tolist(), []
    for i in indices:
        row, label = rows[i], str(predictions.label[i])
        if row.turns:
            turns = (*row.prompt, Turn("assistant", label))
            relabelled.append(replace(row, turns=turns, raw=""))
        else:
            relabelled.append(replace(row, label=label, raw=""))
    if predictions.log_probs is None or experiment.label_kind != "soft":
        return TrainingSet(relabelled)
    return TrainingSet(relabelled, np.exp(predictions.log_probs[indices]))


def _made_from(experiment: W2SExperiment, arm: W2SArm, seed: int, data: ArmData) -> dict[str, Any]:
    """Describe all that decides the weights; models by their content, never by their names."""
    recipe, strong = experiment.recipe, arm.model == "strong"
    config = recipe.train if strong else recipe.weak_train
    rows, probs = data.training.digests
    made_from = {
        "arm": arm.name,
        "stream": experiment.random_seed(seed),
        "model": experiment.digests[arm.model],
        "teacher": experiment.model_digest(arm.teacher, seed) if arm.teacher else None,
        "loss": arm.loss,
        "looks": recipe.looks if arm.teacher else 0,
        "steps": experiment.steps if strong else None,
        "config": config.model_dump(mode="json", exclude=CHANGE_NOTHING),
        "rows": rows,
        "probs": probs,
        "task": experiment.task.settings,
    }
    if data.validation:
        weak, gold = data.validation["weak"].digests, fingerprint(data.validation["gold"].rows)
        made_from["held"] = {"by": arm.stop, "weak": weak, "gold": gold}
    return made_from


def _training_job(
    experiment: W2SExperiment, arm: W2SArm, seed: int, data: ArmData, made_from: Mapping[str, Any]
) -> TrainingJob:
    """Describe the training of an arm for the trainer of its task."""
    from pilotfish.losses import make_loss
    from pilotfish.models import load
    from pilotfish.training.validation import Validation

    recipe, strong, held_out = experiment.recipe, arm.model == "strong", data.validation
    config = (recipe.train if strong else recipe.weak_train).changed({"loss": arm.loss})
    needs_teacher, classes = "teacher" in make_loss(arm.loss).needs, experiment.task.classes

    def targets(data: TrainingSet) -> Ints | Floats:
        if needs_teacher and data.probs is not None:
            return data.probs
        return np.array([classes.index(str(row.label)) for row in data.rows], dtype=np.int64)

    rows, teacher = data.training.rows, None
    training_data = TrainingData(rows, [POOL] * len(rows))
    if classes:  # the labels are the outputs of a classifier's teacher
        labels = ClassTargets(classes, targets(data.training))
        if held_out:
            both = {source: targets(data) for source, data in held_out.items()}
            validation = Validation(held_out["weak"].rows, both, stop=arm.stop)
            labels = replace(labels, validation=validation)
        training_data = replace(training_data, labels=labels)
    else:
        if needs_teacher:
            teacher = load(experiment.model_folder(arm.teacher, seed))
        if held_out:
            # unlimited patience: all arms take the same steps, and both curves are complete
            patience = experiment.steps + 1
            config = config.changed({"stop": arm.stop, "stop_patience": patience})
            both_rows = {source: data.rows for source, data in held_out.items()}
            training_data = replace(training_data, validation=both_rows)
    return TrainingJob(
        arm.name, seed, recipe.strong if strong else recipe.weak, config, training_data,
        experiment.random_seed(seed), made_from, data.facts,
        steps=experiment.steps if strong else None, teacher=teacher,
    )  # fmt: skip


class CurveRecorder:
    """Predicts some test rows a few times while an arm learns; a `TrainingRecorder`.

    The predictions so far are written before the checkpoint of their step, so that they survive a
    kill. Predictions after the last checkpoint are made again and overwritten.
    """

    def __init__(
        self, experiment: W2SExperiment, arm: W2SArm, seed: int, made_from: Mapping[str, Any]
    ) -> None:
        self._experiment, self._arm, self._store = experiment, arm, experiment.ctx.store
        self._path = f"{train_folder(arm.name, seed)}/looks-so-far.json"
        self._made_from = json.loads(json.dumps(made_from))
        self._predicted: dict[str, list[str]] = {}
        try:
            found = self._store.read_json(self._path)
        except DamagedRun:
            return
        if found and found["made_from"] == self._made_from:
            self._predicted = dict(found["said"])

    @property
    def callback(self) -> "StepCallback | None":
        """Predict at evenly spread steps; None for arms that learn true labels."""
        from pilotfish.training.validation import StepCallback

        if not self._arm.teacher:
            return None
        return StepCallback(self._experiment.recipe.looks, self._predict)

    def _predict(self, step: int, model: "Loaded") -> None:
        rows = self._experiment.split.curve_rows
        label = self._experiment.task.predict(model, rows).label
        self._predicted[str(step)] = [str(one) for one in label]
        found = {"made_from": self._made_from, "said": self._predicted}
        self._store.write_json(self._path, found)

    def finish(self, folder: Path) -> dict[str, Any]:
        """Write the curve into the folder of the model, and return the digest of the model."""
        from pilotfish.models import identify

        (folder / CURVE).write_text(json.dumps(self._predicted), encoding="utf-8")
        return {"model_digest": identify(str(folder))}

    def clear(self) -> None:
        """Remove the predictions so far: the model is committed."""
        self._store.remove(self._path)
