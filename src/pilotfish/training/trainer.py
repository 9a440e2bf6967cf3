"""Train the strong model on the rows of one arm: set up, run all steps, save."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pilotfish.config import TrainConfig
from pilotfish.data_order import plan_steps, rows_per_step
from pilotfish.errors import UsageError
from pilotfish.losses import Loss, make_loss
from pilotfish.models import Loaded
from pilotfish.records import Example
from pilotfish.training.checkpoint import (
    CheckpointRequest,
    Checkpoints,
    CheckpointSaver,
    Stateful,
)
from pilotfish.training.cost import flops
from pilotfish.training.data.dataset import training_set_of, window
from pilotfish.training.data.mixture import mix_facts, shares_of
from pilotfish.training.data.row_weights import RowInfo
from pilotfish.training.data.rows import TokenizedRows, encode_rows
from pilotfish.training.interrupts import defer_interrupts
from pilotfish.training.lm_module import FrozenBase, LMWithLoss
from pilotfish.training.loop import LOG_EVERY, Plan, Rows, Step, StepLog, TrainerModule
from pilotfish.training.loop import steps as optimizer_steps
from pilotfish.training.save import in_one_piece, save, write_log
from pilotfish.training.setup import Student, accelerator, check_teacher, peak_rate, prepare, seeded
from pilotfish.training.teacher.outputs import TeacherOutputs
from pilotfish.training.validation import EarlyStopping, StepCallback, StopRule

OnStep = Callable[[int, int, float], None]


def train(
    examples: Sequence[Example],
    strong: str,
    config: TrainConfig,
    *,
    seed: int,
    folder: Path,
    steps: int | None = None,
    learning_rate: float | None = None,
    teacher: Loaded | None = None,
    teacher_outputs: Mapping[str, TeacherOutputs] | None = None,
    row_info: RowInfo | None = None,
    validation: Mapping[str, Sequence[Example]] | None = None,
    on_step: OnStep | None = None,
    checkpoints: Checkpoints | None = None,
    callback: StepCallback | None = None,
) -> dict[str, Any]:
    """Train a model on rows, and write it and log.jsonl into a folder.

    An interrupted call leaves nothing in the folder. The same call again gives the same weights,
    bit for bit on a CPU.

    Args:
        examples: The rows of an arm.
        strong: Local folder or hub id of the model.
        config: Settings of the training.
        seed: Of LoRA's start, dropout and the data order.
        folder: Where to write; the caller commits it.
        steps: Optimizer steps, for which rows are cycled; None: `plan_steps` of these rows.
        learning_rate: Peak; overrides the config.
        teacher: The weak model, for losses that need one and for token selection.
        teacher_outputs: Of a stored teacher, by row name (`TokenizedRows.names`); they replace the
            teacher of the loss.
        row_info: Source and weight of each example.
        validation: Held-out rows by the labels they carry, "weak" or "gold". If config.stop names
            one of them, the weights that do best on it are kept.
        on_step: Called as on_step(step, steps, loss) every ten steps and after the last; loss in
            nats per token.
        checkpoints: Where to save checkpoints and to resume from; None: neither.
        callback: Called with the model at some steps; steps before a resume are not repeated.

    Returns:
        Facts for the manifest of the model.

    Raises:
        UsageError: A loss or token selection without its teacher, different tokenizers, a stored
            teacher of other tokens, or diverged training.
        DataError: No row has a supervised token.
    """
    loss = make_loss(config.loss)
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
        rows = data.rows
        rate = peak_rate(config, learning_rate, student.trained, peft=student.peft)
        plan = make_plan(student, rows, config, seed=seed, steps=steps, learning_rate=rate)
        learner = build_learner(student, loss, rows, teacher)
        hooks = Hooks(
            student.loaded,
            on_step,
            callbacks=[callback] if callback else [],
            stopping=_early_stopping(student, learner, plan, config, validation or {}),
            checkpoints=checkpoints,
        )
        module = TrainerModule.begin(learner, config)
        log = run_steps(module, rows, plan, config, hooks, prompts=data.prompts)
        student = in_one_piece(
            student, learner, lambda: prepare(strong, config, device=torch.device("cpu"))
        )
    facts = {
        "strong": strong,
        "strong_digest": student.loaded.digest,
        "loss": config.loss,
        "loss_in_words": loss.describe(),
        **model_facts(student, rows),
        **log_facts(log, plan, rows, config),
        **mix_facts(rows, plan.shares, step_size(config), plan.steps - plan.warm, seed=plan.seed),
    }
    online = "teacher" in loss.needs and rows.teacher_outputs is None
    read = data.read + (hooks.stopping.read if hooks.stopping else 0)
    facts |= flops(
        student,
        rows,
        learnt=log.inputs,
        read=read + (log.inputs if "base" in loss.needs else 0),
        teacher=teacher if online else None,
        reference=(teacher, data.read) if teacher and data.read else None,
    )
    facts |= data.facts
    if hooks.stopping:
        facts |= hooks.stopping.facts()
    if learner.comparison:
        at = learner.comparison.surpassed_at
        facts["surpassed_at"] = at or None
        if at:
            log.lines[plan.warm + at - 1]["surpassed"] = True
    save(student, folder)  # last: it merges LoRA into the model
    write_log(log.lines, folder)
    return facts


def build_learner(
    student: Student, loss: Loss, rows: TokenizedRows, teacher: Loaded | None
) -> LMWithLoss:
    """Join student and loss, with teacher and base if the loss needs them.

    Args:
        student: The model to train.
        loss: Its `needs` decide what is attached.
        rows: If they carry outputs of a stored teacher, no teacher is needed in memory.
        teacher: The weak model.

    Raises:
        UsageError: The teacher is missing, or cannot read the rows.
    """
    base = None
    if "base" in loss.needs:
        base = FrozenBase(student.causal, lora=student.model if student.peft else None)
    if "teacher" not in loss.needs:
        return LMWithLoss(student.causal, loss, base=base)
    model, vocabulary = None, len(student.loaded.tokenizer)
    if rows.teacher_outputs is None:
        model = check_teacher(student.loaded, teacher, max(rows.lengths)).model
        model.to(accelerator().device)
    return LMWithLoss(student.causal, loss, teacher=model, base=base, vocabulary=vocabulary)


def make_plan(
    student: Student,
    rows: Rows,
    config: TrainConfig,
    *,
    seed: int,
    steps: int | None,
    learning_rate: float,
) -> Plan:
    """Plan one training over all ranks.

    Args:
        student: Decides on bf16.
        rows: All rows to learn.
        config: Warm-up on prompts, shares of sources.
        seed: Of the data order.
        steps: Steps on rows; None: `plan_steps`.
        learning_rate: Peak.

    Raises:
        UsageError: Fewer than 1 step.
    """
    if steps is not None and steps < 1:
        raise UsageError(f"training takes at least 1 step, not {steps}")
    world = accelerator().num_processes
    return Plan(
        steps=config.warmup_lm + (steps or plan_steps(len(rows), config, world=world)),
        learning_rate=learning_rate,
        seed=seed,
        bf16=student.bf16,
        shares=shares_of(rows, config),
        warm=config.warmup_lm,
    )


def _early_stopping(
    student: Student,
    learner: LMWithLoss,
    plan: Plan,
    config: TrainConfig,
    validation: Mapping[str, Sequence[Example]],
) -> EarlyStopping | None:
    if config.stop == "none":
        return None
    limit = window(config, student.loaded)
    rows = {name: encode_rows(held, student.loaded, limit) for name, held in validation.items()}
    rule = StopRule.of(
        config.stop, plan.steps, every=config.stop_every, patience=config.stop_patience
    )
    return EarlyStopping(learner, rows, rule, bf16=student.bf16)


@dataclass(frozen=True)
class Hooks:
    """What happens between the steps of a training.

    Attributes:
        loaded: The model that callbacks receive.
        on_step: Called every `LOG_EVERY` steps and after the last.
        callbacks: Called after it, in this order.
        stopping: May end the training early, and leaves the best weights behind.
        checkpoints: Where to save and resume.
        stateful: What a checkpoint holds besides the learner and `stopping`.
    """

    loaded: Loaded
    on_step: OnStep | None = None
    callbacks: Sequence[StepCallback] = ()
    stopping: EarlyStopping | None = None
    checkpoints: Checkpoints | None = None
    stateful: Stateful | None = None


def run_steps(
    module: TrainerModule,
    rows: Rows,
    plan: Plan,
    config: TrainConfig,
    hooks: Hooks,
    *,
    prompts: TokenizedRows | None = None,
) -> StepLog:
    """Run all steps of a plan, and read the loss every `LOG_EVERY` steps.

    With checkpoints, SIGINT and SIGTERM wait until the step is done and saved (four seconds at
    most), and a killed training is resumed.

    Args:
        module: The model with its loss and optimizer.
        rows: All rows to learn.
        plan: Steps, learning rate and order.
        config: Batch sizes, schedule and clipping.
        hooks: What happens between steps.
        prompts: Rows of the plan's warm steps.
    """
    log, pending, stopping = StepLog(), list[Step](), hooks.stopping
    saver, done = None, 0
    if hooks.checkpoints:
        saver = CheckpointSaver(hooks.checkpoints, plan, module, stopping or hooks.stateful)
        done = saver.resume(log)
    if stopping and not done:
        stopping.evaluate(0)
    running = optimizer_steps(module, rows, plan, config, done=done, prompts=prompts)
    with defer_interrupts(saver is not None) as signals:
        while not (stopping and stopping.over) and (step := next(running, None)):
            at = step.step
            pending.append(step)
            request = saver.request(at, signals.signum) if saver else CheckpointRequest()
            read = at % LOG_EVERY == 0 or at == plan.steps
            due = stopping is not None and stopping.due(at, plan.steps)
            if read or due or request.save:
                log.add(pending)
                pending.clear()
            if stopping and due:
                log.lines[-1]["validation"] = stopping.evaluate(at)
            if read and hooks.on_step:
                hooks.on_step(at, plan.steps, log.lines[-1]["loss"])
            if read:
                for callback in hooks.callbacks:
                    callback.after_step(at, plan.steps, hooks.loaded)
            if saver and request.save:
                saver.save(at, log)
            if request.signum:
                signals.deliver(request.signum)
    if stopping:
        stopping.restore()
    return log


def model_facts(student: Student, rows: Rows) -> dict[str, Any]:
    """Return facts about model and rows; tokens are those of one pass over the rows."""
    return {
        "rows": len(rows),
        "tokens": sum(rows.tokens),
        "input_tokens": sum(rows.lengths),
        "truncated": rows.truncated,
        "unsupervised": rows.unsupervised,
        "peft": student.peft,
        "bf16": student.bf16,
        "dropout": student.dropout,
        "trainable_parameters": student.trained,
        "parameters": student.loaded.parameters,
        **student.loaded.origin,
    }


def log_facts(log: StepLog, plan: Plan, rows: Rows, config: TrainConfig) -> dict[str, Any]:
    """Return facts about the steps that were made."""
    batch, done = step_size(config), len(log.lines)
    return {
        "steps": done,
        "epochs": max(0, done - plan.warm) * batch / len(rows),
        "batch_size": batch,
        "learning_rate": plan.learning_rate,
        "tokens_seen": log.tokens,
        "input_tokens_seen": log.inputs,
        "first_loss": log.lines[0]["loss"],
        "final_loss": log.final_loss,
    }


def step_size(config: TrainConfig) -> int:
    """Return the rows of one optimizer step, all ranks together."""
    return rows_per_step(config, world=accelerator().num_processes)
