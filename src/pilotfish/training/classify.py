"""Trains a classifier on texts with hard or soft labels: the loop, order and ledger of `train`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pilotfish.config import TrainConfig
from pilotfish.data_order import rows_per_step
from pilotfish.errors import UsageError
from pilotfish.losses import Loss, make_loss
from pilotfish.models import load_classifier
from pilotfish.records import Example, Floats, Ints
from pilotfish.training.callbacks import StepCallback
from pilotfish.training.checkpoint import Checkpoints
from pilotfish.training.classifier_module import ClassifierWithLoss, encode_classified
from pilotfish.training.cost import flops
from pilotfish.training.data.dataset import window
from pilotfish.training.save import in_one_piece, save, write_log
from pilotfish.training.setup import Student, accelerator, add_adapters, peak_rate, seeded
from pilotfish.training.trainer import OnStep, about, follow, make_plan, of_run
from pilotfish.training.validation import Validation, ValidationCallback

# What a classifier can be taught by: the others speak of tokens, or of a frozen base.
_NEEDS = frozenset({"teacher", "bias"})


def train_classifier(
    examples: Sequence[Example],
    name: str,
    config: TrainConfig,
    *,
    classes: Sequence[str],
    targets: Ints | Floats,
    weights: Floats | None = None,
    seed: int,
    folder: Path,
    steps: int | None = None,
    learning_rate: float | None = None,
    on_step: OnStep | None = None,
    checkpoints: Checkpoints | None = None,
    looks: StepCallback | None = None,
    validation: Validation | None = None,
) -> dict[str, Any]:
    """Train a classifier of `classes` on texts, write a standard folder, return the facts.

    name: an encoder, a causal language model, or a classifier of the same classes. targets: [n]
    classes by number, or [n, K] distributions for losses that learn from a teacher (soft_ce, kd,
    logconf, product). weights: [n] >= 0, what each row counts; None: 1. Everything else as in
    `train`: the same order, schedule, LoRA, ledger and resume; the mean of a loss is over texts.
    validation: rows to look at after every epoch; the curves are among the facts, and where it
    says what to stop by, the best epoch is what is saved.

    Raises UsageError for a loss that does not fit the targets or a model that cannot classify,
    DataError for targets that are none.
    """
    if config.of_language_models:
        raise UsageError(f"classifiers are trained without train.{config.of_language_models[0]}")
    loss = make_loss(config.loss)
    _check_loss(loss, config.loss, soft=targets.ndim == 2)
    with seeded(seed):
        student = prepare_classifier(name, classes, config)
        limit = window(config, student.loaded)
        rows = encode_classified(examples, targets, weights, student.loaded, limit)
        rate = peak_rate(config, learning_rate, student.trained, peft=student.peft)
        plan = make_plan(student, rows, config, seed=seed, steps=steps, learning_rate=rate)
        pupil = ClassifierWithLoss(student.causal, loss, classes=len(classes))
        watched = looks.beside(on_step, student.loaded) if looks else on_step
        watch = ValidationCallback.over(validation, student, limit) if validation else None
        if watch:
            epochs = plan.steps * rows_per_step(config, world=accelerator().num_processes)
            watched = watch.looks(epochs / len(rows)).beside(watched, student.loaded)
        trail = follow(
            pupil, rows, plan, config, on_step=watched, checkpoints=checkpoints, also=watch,
        )  # fmt: skip
        seen = watch.finish() if watch else {}
        student = in_one_piece(
            student, pupil, lambda: prepare_classifier(name, classes, config, device="cpu")
        )
    read = (watch.read if watch else 0) + (trail.inputs if pupil.looks_ahead else 0)
    facts = {
        "strong": name,
        "strong_digest": student.loaded.digest,
        "classes": list(classes),
        "loss": config.loss,
        "loss_in_words": loss.describe(),
        **about(student, rows),
        **of_run(plan, rows, config, trail),
        **flops(student, rows, learnt=trail.inputs, read=read),
        **seen,
    }
    save(student, folder)  # last: it merges LoRA into the model
    write_log(trail.lines, folder)
    return facts


def prepare_classifier(
    name: str, classes: Sequence[str], config: TrainConfig, *, device: str | None = None
) -> Student:
    """The classifier, on the accelerator's device where none is named, in LoRA if asked.

    Its head always learns as a whole.
    """
    place = device or str(accelerator().device)
    loaded = load_classifier(name, classes, device=place, precision="fp32")
    return add_adapters(loaded, config, task="SEQ_CLS")


def _check_loss(loss: Loss, text: str, *, soft: bool) -> None:
    if alien := sorted(loss.needs - _NEEDS):
        raise UsageError(f"the loss '{text}' asks for {', '.join(alien)}, which no class has")
    if "teacher" in loss.needs and not soft:
        raise UsageError(
            f"the loss '{text}' learns from probabilities, and the labels are hard",
            hint="train with lm, or on soft labels",
        )
