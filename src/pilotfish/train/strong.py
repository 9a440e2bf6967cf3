"""Trains the strong model on the rows of one arm."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pilotfish.config import TrainConfig
from pilotfish.errors import UsageError
from pilotfish.losses import Loss, make_loss
from pilotfish.models import Loaded
from pilotfish.records import Example
from pilotfish.train.checkpoint import NOTHING, Checkpoints, Keeper
from pilotfish.train.cost import flops
from pilotfish.train.interrupts import held
from pilotfish.train.learner import Base, Learner
from pilotfish.train.looks import Looks
from pilotfish.train.loop import Plan, Step, Work
from pilotfish.train.loop import steps as optimizer_steps
from pilotfish.train.order import plan_steps, rows_per_step
from pilotfish.train.pupil import Pupil, Texts
from pilotfish.train.rows import Rows, encode_rows, with_taught
from pilotfish.train.save import in_one_piece, save, write_log
from pilotfish.train.setup import (
    Student,
    accelerator,
    check_teacher,
    peak_rate,
    prepare,
    seeded,
)
from pilotfish.train.taught import Taught, captured_mass, check_stored
from pilotfish.train.trail import LOOK_EVERY, Trail

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
    taught: Mapping[str, Taught] | None = None,
    on_step: OnStep | None = None,
    checkpoints: Checkpoints | None = None,
    looks: Looks | None = None,
) -> dict[str, Any]:
    """Train `strong` on `examples`, write it and log.jsonl into `folder`, return the facts.

    folder: where to write; the caller commits it. An interrupted call leaves nothing behind; the
    same call again gives the same weights, bit for bit on a CPU.
    steps: optimizer steps (None: `plan_steps` of these rows); rows are cycled to fill them.
    learning_rate: peak, overrides the config's. teacher: the weak model, for losses that need one.
    taught: what a stored teacher says of each row (by `Rows.names`), in the teacher's place.
    on_step(step, steps, loss): called every ten steps and after the last; loss in nats per token.
    checkpoints: where to save what a kill would cost, and to go on from; None: neither.
    looks: who looks at the model on the way; what was looked at before a kill is not seen again.

    Raises UsageError for a loss without its teacher, unequal tokenizers, a stored teacher of other
    tokens or diverged training,
    DataError when no row has a supervised token.
    """
    loss = make_loss(config.loss)
    with seeded(seed):
        student = prepare(strong, config)
        rows = encode_rows(examples, student.loaded, window(config, student.loaded))
        rows = attached(rows, loss, config, taught)
        rate = peak_rate(config, learning_rate, student.trained, peft=student.peft)
        plan = make_plan(student, rows, config, seed=seed, steps=steps, learning_rate=rate)
        learner = build_learner(student, loss, rows, teacher)
        watched = looks.beside(on_step, student.loaded) if looks else on_step
        trail = follow(learner, rows, plan, config, on_step=watched, checkpoints=checkpoints)
        student = in_one_piece(
            student, learner, lambda: prepare(strong, config, device=torch.device("cpu"))
        )
    taught_by = teacher if "teacher" in loss.needs and rows.taught is None else None
    facts = {
        "strong": strong,
        "strong_digest": student.loaded.digest,
        "loss": config.loss,
        "loss_in_words": loss.describe(),
        **about(student, rows),
        **of_run(plan, rows, config, trail),
        **flops(student, rows, learnt=trail.inputs, teacher=taught_by),
        **_stored(rows),
    }
    save(student, folder)  # last: it merges LoRA into the model
    write_log(trail.lines, folder)
    return facts


def follow(
    learner: Learner | Pupil,
    rows: Rows | Texts,
    plan: Plan,
    config: TrainConfig,
    *,
    on_step: OnStep | None = None,
    checkpoints: Checkpoints | None = None,
) -> Trail:
    """Run all steps of a plan, looking at the loss every `LOOK_EVERY`.

    checkpoints: where to take up what was killed, and to save what is due. While there are any,
    SIGINT and SIGTERM wait for the step to be done and saved (four seconds at most).
    """
    trail, pending = Trail(), list[Step]()
    work = Work.begin(learner, config, accelerator())
    keeper = Keeper(checkpoints, plan, work) if checkpoints else None
    done = keeper.resume(trail) if keeper else 0
    moving = optimizer_steps(
        learner, rows, plan, config, accelerator=accelerator(), work=work, done=done
    )
    with held(keeper is not None) as signals:
        for step in moving:
            pending.append(step)
            asked = keeper.asked(step.step, signals.signum) if keeper else NOTHING
            look = step.step % LOOK_EVERY == 0 or step.step == plan.steps
            if look or asked.save:
                trail.add(pending)
                pending.clear()
            if look and on_step:
                on_step(step.step, plan.steps, trail.lines[-1]["loss"])
            if keeper and asked.save:
                keeper.save(step.step, trail)
            if asked.signum:
                signals.answer(asked.signum)
    return trail


def attached(
    rows: Rows, loss: Loss, config: TrainConfig, taught: Mapping[str, Taught] | None
) -> Rows:
    """The rows with the stored teacher that the loss learns from, where one is given.

    UsageError where the loss cannot, and where the config says `cached` and none is there.
    """
    if "teacher" not in loss.needs:
        return rows
    if taught is None:
        if config.teacher == "cached":
            raise UsageError(
                "train.teacher is 'cached', but nothing was stored for this training",
                hint="pass --set train.teacher=online",
            )
        return rows
    check_stored(loss, config.loss, next(iter(taught.values())).kind if taught else "topk")
    return with_taught(rows, taught)


def _stored(rows: Rows) -> dict[str, Any]:
    if rows.taught is None:
        return {}
    mass = captured_mass(rows.taught)
    told = {"stored_teacher": rows.taught[0].kind}
    return told if mass is None else {**told, "captured_mass": mass}


def window(config: TrainConfig, loaded: Loaded) -> int:
    """Tokens a row may have: the config's limit, clamped to the model's window."""
    return min(config.max_length, loaded.window or config.max_length)


def build_learner(student: Student, loss: Loss, rows: Rows, teacher: Loaded | None) -> Learner:
    """Student and loss, with teacher and base attached only where the loss needs them.

    Rows that bring what a stored teacher says need no teacher in memory.
    """
    base = None
    if "base" in loss.needs:
        base = Base(student.causal, lora=student.model if student.peft else None)
    if "teacher" not in loss.needs:
        return Learner(student.causal, loss, base=base)
    vocabulary = len(student.loaded.tokenizer)
    if rows.taught is not None:
        return Learner(student.causal, loss, base=base, vocabulary=vocabulary)
    taught = check_teacher(student.loaded, teacher, max(rows.lengths))
    taught.model.to(accelerator().device)
    return Learner(student.causal, loss, teacher=taught.model, base=base, vocabulary=vocabulary)


def make_plan(
    student: Student,
    rows: Rows | Texts,
    config: TrainConfig,
    *,
    seed: int,
    steps: int | None,
    learning_rate: float,
) -> Plan:
    """The plan of one run over all ranks; steps None: as many as `plan_steps` says."""
    if steps is not None and steps < 1:
        raise UsageError(f"training takes at least 1 step, not {steps}")
    world = accelerator().num_processes
    return Plan(
        steps=steps or plan_steps(len(rows), config, world=world),
        learning_rate=learning_rate,
        seed=seed,
        bf16=student.bf16,
    )


def about(student: Student, rows: Rows | Texts) -> dict[str, Any]:
    """Facts about what is trained and on what; tokens are those of one pass over the rows."""
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
    }


def of_run(plan: Plan, rows: Rows | Texts, config: TrainConfig, trail: Trail) -> dict[str, Any]:
    """Facts about how it went."""
    batch = rows_per_step(config, world=accelerator().num_processes)
    return {
        "steps": plan.steps,
        "epochs": plan.steps * batch / len(rows),
        "batch_size": batch,
        "learning_rate": plan.learning_rate,
        "tokens_seen": trail.tokens,
        "input_tokens_seen": trail.inputs,
        "first_loss": trail.lines[0]["loss"],
        "final_loss": trail.final,
    }
