"""Small searches on trusted rows: tuning the weak model, and picking a learning rate."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pilotfish.config import TrainConfig
from pilotfish.errors import UsageError
from pilotfish.losses import LM, make_loss
from pilotfish.models import Loaded
from pilotfish.records import Example
from pilotfish.train.cost import flops
from pilotfish.train.held_out import held_out_loss
from pilotfish.train.learner import Learner
from pilotfish.train.loop import Plan
from pilotfish.train.loop import steps as optimizer_steps
from pilotfish.train.rows import Rows, encode_rows, split_fifth
from pilotfish.train.save import save, write_log
from pilotfish.train.setup import Student, accelerator, peak_rate, prepare, seeded
from pilotfish.train.strong import about, build_learner, make_plan, window

EPOCHS = 10
STEPS_PER_EPOCH = 16  # few rows get small batches, so that an epoch is more than a step or two


def tune(
    examples: Sequence[Example], base: str, *, seed: int, folder: Path, config: TrainConfig
) -> dict[str, Any]:
    """Tune the weak model on trusted rows (LM loss), write it into `folder`, return the facts.

    A fifth of the rows, chosen by hash of seed and content, is held out. After each of ten epochs
    the response loss on it is taken, and the epoch where it is lowest is kept; epoch 0, the model
    as it came, competes too. `config` gives lengths, LoRA, schedule and learning rate (the rule of
    thumb where it is None or a list); its loss, epochs and steps are the strong model's business.

    Raises DataError below two usable rows, UsageError for a model whose loss is no number.
    """
    with seeded(seed):
        student = prepare(base, config)
        rows = encode_rows(examples, student.loaded, window(config, student.loaded))
        learned, held = split_fifth(rows, seed=seed)
        config = _for_few_rows(config, len(learned))
        rate = peak_rate(config, None, student.trained, peft=student.peft)
        plan = make_plan(student, learned, config, seed=seed, steps=None, learning_rate=rate)
        losses, inputs = _keep_best_epoch(student, learned, held, plan=plan, config=config)
    facts = {
        "base": base,
        "base_digest": student.loaded.digest,
        **about(student, rows),
        **_of_epochs(losses, len(learned), len(held)),
        "steps": plan.steps,
        "batch_size": config.per_device_train_batch_size,
        "learning_rate": rate,
        "input_tokens_seen": inputs,
        **flops(student, rows, learnt=inputs, read=len(losses) * sum(held.lengths)),
    }
    save(student, folder)
    write_log(_log(losses), folder)
    return facts


def _of_epochs(losses: Sequence[float], learned: int, held: int) -> dict[str, Any]:
    kept = min(range(len(losses)), key=losses.__getitem__)
    return {
        "learned_rows": learned,
        "held_out_rows": held,
        "epochs": len(losses) - 1,
        "kept_epoch": kept,
        "held_out_loss_before": losses[0],
        "held_out_loss": losses[kept],
    }


def _log(losses: Sequence[float]) -> list[dict[str, Any]]:
    """A line per epoch; None where the loss was no number."""
    finite = [loss if math.isfinite(loss) else None for loss in losses]
    return [{"epoch": epoch, "held_out_loss": loss} for epoch, loss in enumerate(finite)]


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
) -> float:
    """The candidate whose model has the lowest response loss on `heldout`; ties: the smaller.

    Each candidate gets a full training of `steps` steps (None: `plan_steps` of the rows), so this
    costs as much as the arms do. A
    candidate that diverges is out; UsageError when all do.
    """
    if not candidates:
        raise UsageError("there is no learning rate to try")
    found: list[tuple[float, float]] = []
    for rate in sorted(set(candidates)):
        with seeded(seed):
            student = prepare(strong, config)
            longest = window(config, student.loaded)
            rows = encode_rows(examples, student.loaded, longest)
            plan = make_plan(student, rows, config, seed=seed, steps=steps, learning_rate=rate)
            learner = build_learner(student, make_loss(config.loss), rows, teacher)
            for _ in optimizer_steps(learner, rows, plan, config, accelerator=accelerator()):
                pass
            loss = held_out_loss(student, encode_rows(heldout, student.loaded, longest))
        if math.isfinite(loss):
            found.append((loss, rate))
    if not found:
        raise UsageError(
            f"training diverged at every learning rate tried: {sorted(set(candidates))}",
            hint="try smaller ones",
        )
    return min(found)[1]


def _for_few_rows(config: TrainConfig, n_rows: int) -> TrainConfig:
    """The tuning settings: batches small enough to make some steps."""
    batch = min(config.per_device_train_batch_size, max(4, n_rows // STEPS_PER_EPOCH))
    per_epoch = math.ceil(n_rows / (batch * accelerator().num_processes))
    several = isinstance(config.learning_rate, list)
    changes = {
        "learning_rate": None if several else config.learning_rate,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": 1,
        "max_steps": EPOCHS * per_epoch,
    }
    return config.model_copy(update=changes)


def _keep_best_epoch(
    student: Student, learned: Rows, held: Rows, *, plan: Plan, config: TrainConfig
) -> tuple[list[float], int]:
    """Train; leave the weights of the best epoch in the student.

    -> ([epochs + 1] held-out nats per token, inf where training diverged; input tokens learnt).
    """
    per_epoch, inputs = plan.steps // EPOCHS, 0
    losses = [held_out_loss(student, held)]
    if not math.isfinite(losses[0]):
        raise UsageError(f"'{student.loaded.name}' gives held-out rows a loss of {losses[0]}")
    best = _snapshot(student)
    learner = Learner(student.causal, LM())
    for step in optimizer_steps(learner, learned, plan, config, accelerator=accelerator()):
        inputs += step.inputs
        if step.step % per_epoch:
            continue
        found = held_out_loss(student, held)
        losses.append(found if math.isfinite(found) else math.inf)
        if losses[-1] < min(losses[:-1]):
            best = _snapshot(student)
    with torch.no_grad():
        for name, weight in student.model.named_parameters():
            if name in best:
                weight.copy_(best[name])
    return losses, inputs


def _snapshot(student: Student) -> dict[str, Tensor]:
    named = student.model.named_parameters()
    return {name: weight.detach().clone() for name, weight in named if weight.requires_grad}
