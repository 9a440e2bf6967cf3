"""The models that label a pool, tuned or trained so that none labels a row it was trained on."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.config import TrainConfig, WeakTrainConfig
from pilotfish.data import overlap_key, overlap_keys
from pilotfish.data.held_out import hold_out
from pilotfish.data.run_pool import fingerprint
from pilotfish.errors import DataError, UsageError, need_torch
from pilotfish.flops import training_cost
from pilotfish.labeling.predict import check_head, with_answer
from pilotfish.labeling.settings import LabelTask
from pilotfish.labeling.table import Labels
from pilotfish.records import Example, Floats, Ints

if TYPE_CHECKING:
    from pilotfish.models import Loaded

HEAD_EPOCHS = 10  # over the trusted rows, which are few; a language model gets as many at most
_HELD_OUT_SHARE = 3  # one trusted row in so many is not tuned on, where a filter learns from them


@dataclass(frozen=True)
class Labeller:
    """One model and the rows it may label.

    Attributes:
        model: The untrained model.
        fold: The fold whose rows it labels; -1: all rows that it was not trained on.
        trained_on: Overlap keys of its training rows.
        trusted: Trusted rows that it was not trained on, for filters.
        folder: The trained model, relative to the run; "" where the model is used as it is.
        head: Whether it answers by a classification head.
    """

    model: str
    fold: int = -1
    trained_on: frozenset[str] = frozenset()
    trusted: tuple[Example, ...] = ()
    folder: str = ""
    head: bool = False

    def load(self, task: LabelTask) -> "Loaded":
        """Load the model."""
        from pilotfish.models import load, load_classifier

        name = str(task.context.run.root / self.folder) if self.folder else self.model
        return load_classifier(name, task.classes) if self.head else load(name)


@dataclass(frozen=True)
class Labellers:
    """The models that share the rows of a pool.

    Attributes:
        labellers: The models, in the order of their folds.
        summary: A sentence that states how each was kept from its own training rows.
        folds: Number of folds; 0 where one model labels all rows.
        seed: Seed of the folds.
    """

    labellers: tuple[Labeller, ...]
    summary: str
    folds: int = 0
    seed: int = 0

    def assign(self, keys: Sequence[str]) -> Ints:
        """Assign each row to a labeller.

        Args:
            keys: Overlap keys of the rows [n].

        Returns:
            Indices of the labellers [n], -1 for rows that the only labeller was trained on.
        """
        if self.folds:
            owner = np.array([fold_of(key, self.folds, self.seed) for key in keys], dtype=np.int64)
        else:
            trained_on = self.labellers[0].trained_on
            owner = np.array([-1 if key in trained_on else 0 for key in keys], dtype=np.int64)
        for number, labeller in enumerate(self.labellers):  # whatever assigned the rows
            leaked = {keys[int(i)] for i in np.flatnonzero(owner == number)} & labeller.trained_on
            if leaked:
                raise AssertionError(f"{len(leaked)} rows would be labelled by a model they tuned")
        return owner


def fold_of(key: str, folds: int, seed: int) -> int:
    """Return the fold of all rows with an overlap key, by a hash: other rows do not matter."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % folds


def weak_labellers(task: LabelTask) -> Labellers:
    """Return the weak model as it is, tuned once on trusted rows, or cross-fitted in folds.

    Raises:
        UsageError: The filter `trust` lacks trusted rows, or a classification head was not trained.
        DataError: Folds are wanted, and neither trusted rows nor own answers are there.
    """
    config, trusted, weak = task.config, task.trusted, task.recipe.weak
    needs_trusted, head = needs_trusted_rows(task), task.uses_head(weak)
    if needs_trusted and not trusted:
        raise UsageError(
            "the filter 'trust' learns from rows whose right answer is known",
            hint="give some with --trusted DATA, or filter by confidence",
        )
    if head:
        check_head(weak, config)
    if not config.tune or not (trusted or config.folds):
        from pilotfish.models import is_classifier

        if head and not is_classifier(weak):
            raise UsageError(
                f"{weak} has no trained classification head",
                hint="tune one: give rows with --trusted DATA, or --folds",
            )
        summary = f"{weak} is used as it is: what it was trained on is not known here"
        held_out = tuple(trusted) if needs_trusted else ()
        return Labellers((Labeller(weak, trusted=held_out, head=head),), summary)
    overlap = overlap_keys(trusted) & {*task.keys}
    if config.folds and (overlap or not trusted):
        return _cross_fitted(task)
    return _tuned_once(task)


def needs_trusted_rows(task: LabelTask) -> bool:
    """Return whether a filter learns from trusted rows that the model was not tuned on."""
    return "trust" in task.config.filter_names


def _tuned_once(task: LabelTask) -> Labellers:
    """Tune one model on the trusted rows; pool rows with the same prompts are not labelled."""
    training, held_out = list(task.trusted), list[Example]()
    if needs_trusted_rows(task):
        count = max(1, len(training) // _HELD_OUT_SHARE)
        training, held_out = hold_out(training, count, task.config.seed)
    keys = overlap_keys(training)
    shared = sum(key in keys for key in task.keys)
    summary = (
        f"the weak model was tuned on {len(training):,} trusted rows; none of the "
        f"{len(task.keys):,} pool rows has the prompt of one of them (by overlap keys)"
    )
    if shared:
        summary = (
            f"{shared:,} of the {len(task.keys):,} pool rows have the prompt of one of the "
            f"{len(training):,} trusted rows that the weak model was tuned on: they are not "
            "labelled (--folds would label them by models that were not trained on them)"
        )
    weak = task.recipe.weak
    folder, head = tune_labeller(task, training), task.uses_head(weak)
    labeller = Labeller(weak, -1, keys, tuple(held_out), folder, head)
    return Labellers((labeller,), summary)


def _cross_fitted(task: LabelTask) -> Labellers:
    """Tune one model per fold on the rows of the other folds: trusted rows, else pool rows."""
    config, weak, rows = task.config, task.recipe.weak, list(task.trusted)
    if not rows:
        examples = task.pool.examples()
        rows = [row for row in examples if row.response and (row.turns or row.label)]
    if not rows:
        raise DataError(
            "--folds tunes the weak model on the rows' own answers, and they have none",
            hint="give trusted rows with --trusted DATA",
        )
    part = [fold_of(overlap_key(row), config.folds, config.seed) for row in rows]
    labellers = []
    for fold in range(config.folds):
        training = [row for row, its_fold in zip(rows, part, strict=True) if its_fold != fold]
        held_out = [row for row, its_fold in zip(rows, part, strict=True) if its_fold == fold]
        trusted = tuple(held_out) if needs_trusted_rows(task) else ()
        task.context.progress.note(
            f"fold {fold + 1} of {config.folds}: tuned on {len(training):,} rows"
        )
        folder, head = tune_labeller(task, training), task.uses_head(weak)
        labellers.append(Labeller(weak, fold, overlap_keys(training), trusted, folder, head))
    which = "trusted rows" if task.trusted else "rows of the pool with their own answers"
    summary = (
        f"cross-fitted in {config.folds} folds on {len(rows):,} {which}: the model that labels a "
        "fold was tuned on rows of the others, and rows with the same prompt share a fold"
    )
    return Labellers(tuple(labellers), summary, config.folds, config.seed)


def student_labellers(task: LabelTask, model: str, labels: Labels) -> Labellers:
    """Train another model on labels, in folds, so that it labels no row that it was trained on.

    Args:
        task: The rows and settings.
        model: The model to train.
        labels: Labels of the pool [n]; those with status `ok` are trained on.

    Raises:
        UsageError: No label is left to train on.
    """
    folds, seed = max(task.config.folds, 2), task.config.seed
    part = np.array([fold_of(key, folds, seed) for key in task.keys], dtype=np.int64)
    head, labellers = task.uses_head(model), []
    for fold in range(folds):
        places = np.flatnonzero(labels.ok & (part != fold))
        if not len(places):
            raise UsageError(
                f"no label is left to train {model} on",
                hint="set less aside: a lower --abstain-below, or fewer filters",
            )
        rows = [
            with_answer(row, str(labels.label[i]))
            for row, i in zip(task.pool.take(places), places, strict=True)
        ]
        soft = None if labels.probs is None else labels.probs[places]
        folder = train_student(task, model, rows, soft)
        trained_on = frozenset(task.keys[int(i)] for i in places)
        labellers.append(Labeller(model, fold, trained_on, (), folder, head))
    count = int(labels.ok.sum())
    summary = f"{model}: trained in {folds} folds on {count:,} labels of the one before"
    return Labellers(tuple(labellers), summary, folds, seed)


@dataclass(frozen=True)
class _ModelJob:
    """A model to tune or train: on which rows, and the fingerprints that identify its data."""

    verb: str  # tune | train
    base: str
    rows: Sequence[Example]
    config: WeakTrainConfig
    data: Mapping[str, Any]
    soft: Floats | None = field(default=None, repr=False)  # [n, k]; None: the rows' own answers

    def made_from(self, task: LabelTask) -> dict[str, Any]:
        """Return all that decides the model."""
        from pilotfish.models import identify

        return {
            "model": identify(self.base),
            **self.data,
            "seed": task.config.seed,
            "config": self.config.model_dump(mode="json"),
        }


def tune_labeller(task: LabelTask, rows: Sequence[Example]) -> str:
    """Tune the weak model on rows, or find the same model in the run; return its folder."""
    need_torch("tuning the weak model", extra="train")
    base = task.recipe.weak
    job = _ModelJob("tune", base, rows, task.recipe.weak_train, {"trusted": fingerprint(rows)})
    # `score` may have tuned the very same model
    scored = task.context.store.manifest("weak/manifest.json")
    if scored and not task.uses_head(base) and scored.get("made_from") == job.made_from(task):
        return "weak"
    return _model_folder(task, job)


def train_student(task: LabelTask, base: str, rows: Sequence[Example], probs: Floats | None) -> str:
    """Train a later model on labelled rows, or find it in the run; return its folder.

    Args:
        task: The settings of the labelling.
        base: The model.
        rows: Rows whose answer is their label [n].
        probs: Soft labels [n, k]; a classification head is trained on them instead of the answers.
    """
    need_torch("training on weak labels", extra="train")
    config, soft = task.recipe.train, probs if task.uses_head(base) else None
    if soft is not None and config.loss == "lm":
        config = config.changed({"loss": "soft_ce"})
    digest = None if soft is None else hashlib.sha256(soft.tobytes()).hexdigest()
    data = {"labelled": fingerprint(rows), "soft": digest}
    return _model_folder(task, _ModelJob("train", base, rows, config, data, soft))


def _model_folder(task: LabelTask, job: _ModelJob) -> str:
    """Commit a model in a folder named after all that decides it; rows.jsonl lists its rows."""
    made_from = job.made_from(task)
    if task.uses_head(job.base):
        made_from["classes"] = list(task.classes)
        if unknown := sorted({row.response for row in job.rows} - {*task.classes}):
            raise UsageError(
                f"a training row is labelled {unknown[0]}, which is none of the classes "
                f"{', '.join(task.classes)}",
                hint="name all of them with --classes",
            )
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    folder, store = f"labels/models/{digest}", task.context.store
    if store.manifest(f"{folder}/manifest.json") is not None:
        return folder
    task.context.progress.note(f"{job.verb} on {len(job.rows):,} rows")
    start = time.monotonic()
    with store.attempt(f"{folder}/manifest.json") as attempt:
        temp = attempt.folder(folder)
        facts = _train(task, job, temp)
        lines = (json.dumps({"id": row.id, "asks": overlap_key(row)}) for row in job.rows)
        (temp / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        attempt.meta = {"made_from": made_from, **facts}
    # charged to `label`: a model tuned here is no part of what a selection cost
    seconds, name = time.monotonic() - start, f"{job.verb} {digest}"
    task.context.run.cost(
        "label", name, seconds=seconds, rows=len(job.rows), **training_cost(facts)
    )
    return folder


def _train(task: LabelTask, job: _ModelJob, folder: Path) -> dict[str, Any]:
    """Train a classification head, or tune or train a language model; return facts about it."""
    rows, config, seed = job.rows, job.config, task.config.seed
    if not task.uses_head(job.base):
        if not isinstance(config, TrainConfig):
            from pilotfish.training.tune import tune

            return tune(rows, job.base, seed=seed, folder=folder, config=config)
        from pilotfish.training.trainer import train

        return train(rows, job.base, config, seed=seed, folder=folder)
    from pilotfish.training.classify import train_classifier

    if not isinstance(config, TrainConfig):
        known = {name: getattr(config, name) for name in WeakTrainConfig.model_fields}
        config = TrainConfig(**known, num_train_epochs=HEAD_EPOCHS)
    index = {name: i for i, name in enumerate(task.classes)}
    hard: Ints = np.array([index[row.response] for row in rows], dtype=np.int64)
    targets = hard if job.soft is None else job.soft
    return train_classifier(
        rows, job.base, config, classes=task.classes, targets=targets, seed=seed, folder=folder
    )
