"""Train a classifier on texts with hard or soft labels, by the loop of `trainer`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pilotfish.config import TrainConfig
from pilotfish.errors import UsageError
from pilotfish.losses import make_loss
from pilotfish.models import load_classifier
from pilotfish.records import Example, Floats, Ints
from pilotfish.training.checkpoint import Checkpoints
from pilotfish.training.classifier_module import ClassifierWithLoss, encode_classified
from pilotfish.training.cost import flops
from pilotfish.training.data.dataset import window
from pilotfish.training.loop import TrainerModule
from pilotfish.training.save import in_one_piece, save, write_log
from pilotfish.training.setup import Student, accelerator, add_adapters, peak_rate, seeded
from pilotfish.training.trainer import (
    Hooks,
    OnStep,
    log_facts,
    make_plan,
    model_facts,
    run_steps,
    step_size,
)
from pilotfish.training.validation import StepCallback, Validation, ValidationCallback

# Inputs of a loss that a classifier has: the others are about tokens, or a frozen base.
_INPUTS = frozenset({"teacher", "bias"})


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
    callback: StepCallback | None = None,
    validation: Validation | None = None,
) -> dict[str, Any]:
    """Train a classifier on texts, and write it as a standard model folder.

    Order, schedule, LoRA, ledger and resume are those of `train`; the loss is a mean over texts.

    Args:
        examples: n texts.
        name: An encoder, a causal language model, or a classifier of the same classes.
        config: Settings of the training.
        classes: Names of the K classes.
        targets: [n] classes by number, or [n, K] distributions for losses that learn from a teacher
            (soft_ce, kd, logconf, product).
        weights: [n] >= 0; None: 1.
        seed, folder, steps, learning_rate, on_step, checkpoints, callback: As in `train`.
        validation: Rows to evaluate on after every epoch. If it names labels to stop by, the best
            epoch is saved.

    Returns:
        Facts for the manifest of the model, with the curves of the validation.

    Raises:
        UsageError: The loss does not fit the targets, or the model cannot classify.
        DataError: The targets are not classes or distributions.
    """
    if config.of_language_models:
        raise UsageError(f"classifiers are trained without train.{config.of_language_models[0]}")
    loss = make_loss(config.loss)
    if missing := sorted(loss.needs - _INPUTS):
        raise UsageError(f"the loss '{config.loss}' needs {', '.join(missing)}, which no class has")
    if "teacher" in loss.needs and targets.ndim != 2:
        raise UsageError(
            f"the loss '{config.loss}' learns from probabilities, and the labels are hard",
            hint="train with lm, or on soft labels",
        )
    with seeded(seed):
        student = prepare_classifier(name, classes, config)
        limit = window(config, student.loaded)
        rows = encode_classified(examples, targets, weights, student.loaded, limit)
        rate = peak_rate(config, learning_rate, student.trained, peft=student.peft)
        plan = make_plan(student, rows, config, seed=seed, steps=steps, learning_rate=rate)
        learner = ClassifierWithLoss(student.causal, loss, classes=len(classes))
        callbacks, watch = [callback] if callback else [], None
        if validation:
            watch = ValidationCallback.over(validation, student, limit)
            callbacks.append(watch.every_epoch(plan.steps * step_size(config) / len(rows)))
        hooks = Hooks(student.loaded, on_step, callbacks, checkpoints=checkpoints, stateful=watch)
        log = run_steps(TrainerModule.begin(learner, config), rows, plan, config, hooks)
        curves = watch.finish() if watch else {}
        student = in_one_piece(
            student, learner, lambda: prepare_classifier(name, classes, config, device="cpu")
        )
    read = (watch.read if watch else 0) + (log.inputs if learner.needs_preview else 0)
    facts = {
        "strong": name,
        "strong_digest": student.loaded.digest,
        "classes": list(classes),
        "loss": config.loss,
        "loss_in_words": loss.describe(),
        **model_facts(student, rows),
        **log_facts(log, plan, rows, config),
        **flops(student, rows, learnt=log.inputs, read=read),
        **curves,
    }
    save(student, folder)  # last: it merges LoRA into the model
    write_log(log.lines, folder)
    return facts


def prepare_classifier(
    name: str, classes: Sequence[str], config: TrainConfig, *, device: str | None = None
) -> Student:
    """Load a classifier for training, and add LoRA if the config wants it.

    Args:
        name: An encoder, a causal language model, or a classifier of the same classes.
        classes: Names of the classes.
        config: Precision and LoRA settings; the head is trained as a whole in any case.
        device: Where to load it; None: the accelerator's device.
    """
    device = device or str(accelerator().device)
    loaded = load_classifier(name, classes, device=device, precision="fp32")
    return add_adapters(loaded, config, task="SEQ_CLS")
