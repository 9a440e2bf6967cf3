"""Searches on trusted rows: tune the weak model, and pick a learning rate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pilotfish.config import TrainConfig, WeakTrainConfig
from pilotfish.errors import UsageError
from pilotfish.losses import LM, make_loss
from pilotfish.models import Loaded
from pilotfish.records import Example
from pilotfish.training.cost import flops
from pilotfish.training.data.dataset import training_set_of, window
from pilotfish.training.data.row_weights import RowInfo
from pilotfish.training.data.rows import TokenizedRows, encode_rows, split_fifth
from pilotfish.training.lm_module import LMWithLoss
from pilotfish.training.loop import Plan, TrainerModule
from pilotfish.training.loop import steps as optimizer_steps
from pilotfish.training.save import restore, save, snapshot, write_log
from pilotfish.training.setup import Student, accelerator, default_learning_rate, prepare, seeded
from pilotfish.training.teacher.outputs import TeacherOutputs
from pilotfish.training.trainer import build_learner, make_plan, model_facts
from pilotfish.training.validation import held_out_loss

EPOCHS = 10
PATIENCE = 3  # epochs without a better held-out loss after which a rate is given up
STEPS_PER_EPOCH = 16  # few rows get small batches, so that an epoch is more than a step or two
SHARES = (1 / 16, 1 / 4, 1)  # of the rule of thumb's rate: how much a model bears is not known


@dataclass(frozen=True)
class Trial:
    """One learning rate, tried for up to `EPOCHS` epochs."""

    learning_rate: float
    losses: list[float]  # [epochs + 1] held-out nats per token, inf where training diverged
    weights: dict[str, Tensor]  # of the best epoch
    steps: int
    inputs: int  # input tokens learnt

    @property
    def best_epoch(self) -> int:
        """The epoch of the lowest loss; of equal ones the first."""
        return min(range(len(self.losses)), key=self.losses.__getitem__)


def tune(
    examples: Sequence[Example], base: str, *, seed: int, folder: Path, config: WeakTrainConfig
) -> dict[str, Any]:
    """Tune the weak model on trusted rows by LM loss, and write it and log.jsonl into a folder.

    A fifth of the rows, chosen by hash of seed and content, is held out. The loss on it is computed
    after each of up to ten epochs (three without progress end a trial), and the epoch where it is
    lowest is kept; epoch 0, the model as it was, competes too.

    Args:
        examples: Trusted rows.
        base: Local folder or hub id of the weak model.
        seed: Of the split, the order and dropout.
        folder: Where to write; the caller commits it.
        config: Lengths, LoRA, schedule and learning rate. All rates of a list are tried; None tries
            three shares of the rule of thumb.

    Returns:
        Facts for the manifest of the model.

    Raises:
        DataError: Fewer than two usable rows.
        UsageError: The loss of the model is not a finite number.
    """
    settings = TrainConfig(**{name: getattr(config, name) for name in WeakTrainConfig.model_fields})
    with seeded(seed):
        student = prepare(base, settings)
    rows = encode_rows(examples, student.loaded, window(settings, student.loaded))
    learnt, held_out = split_fifth(rows, seed=seed)
    settings, start = for_few_rows(settings, len(learnt)), snapshot(student)
    rates = config.learning_rate
    if rates is None:
        rule = default_learning_rate(student.trained, peft=student.peft)
        rates = [rule * share for share in SHARES]
    trials = []
    for rate in sorted(set(rates if isinstance(rates, list) else [rates])):
        restore(student, start)
        plan = make_plan(student, learnt, settings, seed=seed, steps=None, learning_rate=rate)
        with seeded(seed):
            trials.append(_try(student, learnt, held_out, plan=plan, config=settings))
    best = min(trials, key=lambda trial: min(trial.losses))
    restore(student, best.weights)
    inputs = sum(trial.inputs for trial in trials)
    evaluations = sum(len(trial.losses) for trial in trials)
    facts = {
        "base": base,
        "base_digest": student.loaded.digest,
        **model_facts(student, rows),
        "learned_rows": len(learnt),
        "held_out_rows": len(held_out),
        "learning_rate": best.learning_rate,
        "epochs": len(best.losses) - 1,
        "kept_epoch": best.best_epoch,
        "held_out_loss_before": best.losses[0],
        "held_out_loss": best.losses[best.best_epoch],
        "batch_size": settings.per_device_train_batch_size,
        "learning_rates_tried": [trial.learning_rate for trial in trials],
        "steps": sum(trial.steps for trial in trials),
        "input_tokens_seen": inputs,
        **flops(student, rows, learnt=inputs, read=evaluations * sum(held_out.lengths)),
    }
    save(student, folder)
    lines = [
        {
            "lr": trial.learning_rate,
            "epoch": epoch,
            "held_out_loss": loss if math.isfinite(loss) else None,
        }
        for trial in trials
        for epoch, loss in enumerate(trial.losses)
    ]
    write_log(lines, folder)
    return facts


def for_few_rows(config: TrainConfig, n_rows: int) -> TrainConfig:
    """Return the settings of tuning: batches small enough for some steps, and ten epochs."""
    batch = min(config.per_device_train_batch_size, max(4, n_rows // STEPS_PER_EPOCH))
    per_epoch = math.ceil(n_rows / (batch * accelerator().num_processes))
    changes = {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": 1,
        "max_steps": EPOCHS * per_epoch,
    }
    return config.model_copy(update=changes)


def _try(
    student: Student,
    learnt: TokenizedRows,
    held_out: TokenizedRows,
    *,
    plan: Plan,
    config: TrainConfig,
) -> Trial:
    """Train the student from its present weights, with the held-out loss after each epoch."""
    losses = [held_out_loss(student, held_out)]
    if not math.isfinite(losses[0]):
        raise UsageError(f"'{student.loaded.name}' gives held-out rows a loss of {losses[0]}")
    best, kept, inputs, done = snapshot(student), 0, 0, 0
    module = TrainerModule.begin(LMWithLoss(student.causal, LM()), config)
    for step in optimizer_steps(module, learnt, plan, config):
        inputs, done = inputs + step.inputs, step.step
        if step.step % (plan.steps // EPOCHS):
            continue
        loss = held_out_loss(student, held_out)
        losses.append(loss if math.isfinite(loss) else math.inf)
        if losses[-1] < losses[kept]:
            best, kept = snapshot(student), len(losses) - 1
        if len(losses) - 1 - kept >= PATIENCE:
            break
    return Trial(plan.learning_rate, losses, best, done, inputs)


def pick_learning_rate(
    examples: Sequence[Example],
    strong: str,
    config: TrainConfig,
    candidates: Sequence[float],
    heldout: Sequence[Example],
    *,
    seed: int,
    steps: int | None = None,
    teacher: Loaded | None = None,
    teacher_outputs: Mapping[str, TeacherOutputs] | None = None,
    row_info: RowInfo | None = None,
) -> float:
    """Return the learning rate whose model has the lowest loss on held-out rows.

    Every candidate gets a full training without early stopping, so this costs as much as the arms
    do. Of equal losses the smaller rate is returned; a candidate that diverges is dropped.

    Args:
        examples: The rows of an arm.
        strong: Local folder or hub id of the model.
        config: Settings of the training.
        candidates: Peak learning rates.
        heldout: Trusted rows that are not learnt.
        seed, steps, teacher, teacher_outputs, row_info: As in `train`.

    Raises:
        UsageError: No candidates, or training diverged at every one.
    """
    if not candidates:
        raise UsageError("there is no learning rate to try")
    found: list[tuple[float, float]] = []
    loss = make_loss(config.loss)
    for rate in sorted(set(candidates)):
        with seeded(seed):
            student = prepare(strong, config)
            data = training_set_of(
                examples,
                student,
                loss,
                config,
                row_info=row_info,
                teacher=teacher,
                teacher_outputs=teacher_outputs,
            )
            plan = make_plan(student, data.rows, config, seed=seed, steps=steps, learning_rate=rate)
            learner = build_learner(student, loss, data.rows, teacher)
            module = TrainerModule.begin(learner, config)
            for _ in optimizer_steps(module, data.rows, plan, config, prompts=data.prompts):
                pass
            limit = window(config, student.loaded)
            nats = held_out_loss(student, encode_rows(heldout, student.loaded, limit))
        if math.isfinite(nats):
            found.append((nats, rate))
    if not found:
        raise UsageError(
            f"training diverged at every learning rate tried: {sorted(set(candidates))}",
            hint="try smaller ones",
        )
    return min(found)[1]
