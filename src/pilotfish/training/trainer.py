"""Trains the strong model on the rows of one arm."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pilotfish.config import TrainConfig
from pilotfish.data_order import plan_steps, rows_per_step
from pilotfish.errors import UsageError
from pilotfish.losses import Loss, make_loss
from pilotfish.models import Loaded
from pilotfish.records import Example
from pilotfish.training.callbacks import StepCallback
from pilotfish.training.checkpoint import NOTHING, Checkpoints, CheckpointSaver, Stateful
from pilotfish.training.classifier_module import ClassifierRows, ClassifierWithLoss
from pilotfish.training.cost import flops
from pilotfish.training.data.dataset import training_set_of, window
from pilotfish.training.data.mixture import mix_facts, shares_of
from pilotfish.training.data.row_weights import RowInfo
from pilotfish.training.data.rows import TokenizedRows, encode_rows
from pilotfish.training.interrupts import defer_interrupts
from pilotfish.training.lm_module import FrozenBase, LMWithLoss
from pilotfish.training.loop import Plan, Step, TrainerModule
from pilotfish.training.loop import steps as optimizer_steps
from pilotfish.training.save import in_one_piece, save, write_log
from pilotfish.training.setup import Student, accelerator, check_teacher, peak_rate, prepare, seeded
from pilotfish.training.step_log import LOOK_EVERY, StepLog
from pilotfish.training.stopping import NoStopping, Rule, Stopping
from pilotfish.training.teacher.outputs import TeacherOutputs

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
    taught: Mapping[str, TeacherOutputs] | None = None,
    known: RowInfo | None = None,
    validation: Mapping[str, Sequence[Example]] | None = None,
    on_step: OnStep | None = None,
    checkpoints: Checkpoints | None = None,
    looks: StepCallback | None = None,
) -> dict[str, Any]:
    """Train `strong` on `examples`, write it and log.jsonl into `folder`, return the facts.

    folder: where to write; the caller commits it. An interrupted call leaves nothing behind; the
    same call again gives the same weights, bit for bit on a CPU.
    steps: optimizer steps (None: `plan_steps` of these rows); rows are cycled to fill them.
    learning_rate: peak, overrides the config's. teacher: the weak model, for losses that need one,
    and for a focus. taught: what a stored teacher says of each row (by `Rows.names`), in the place
    of the loss's teacher. known: where each example comes from, and what it counts.
    validation: held-out rows by whose labels they bear, "weak" or "gold", where config.stop names
    one of them; the weights that do best on it are kept.
    on_step(step, steps, loss): called every ten steps and after the last; loss in nats per token.
    checkpoints: where to save what a kill would cost, and to go on from; None: neither.
    looks: who looks at the model on the way; what was looked at before a kill is not seen again.

    Raises UsageError for a loss or focus without its teacher, unequal tokenizers, a stored teacher
    of other tokens or diverged training, DataError when no row has a supervised token.
    """
    loss = make_loss(config.loss)
    with seeded(seed):
        student = prepare(strong, config)
        lesson = training_set_of(
            examples, student, loss, config, known=known, teacher=teacher, taught=taught
        )
        rows = lesson.rows
        rate = peak_rate(config, learning_rate, student.trained, peft=student.peft)
        plan = make_plan(student, rows, config, seed=seed, steps=steps, learning_rate=rate)
        learner = build_learner(student, loss, rows, teacher)
        watched = looks.beside(on_step, student.loaded) if looks else on_step
        stopping = stopping_of(student, learner, plan, config, validation or {})
        trail = follow(
            learner, rows, plan, config, prompts=lesson.prompts, stopping=stopping,
            on_step=watched, checkpoints=checkpoints,
        )  # fmt: skip
        student = in_one_piece(
            student, learner, lambda: prepare(strong, config, device=torch.device("cpu"))
        )
    if learner.race and learner.race.won:
        trail.lines[plan.warm + learner.race.won_at - 1]["surpassed"] = True
    read = lesson.read + (stopping.read if stopping else 0)
    read += trail.inputs if "base" in loss.needs else 0
    facts = {
        "strong": strong,
        "strong_digest": student.loaded.digest,
        "loss": config.loss,
        "loss_in_words": loss.describe(),
        **about(student, rows),
        **of_run(plan, rows, config, trail),
        **mix_facts(rows, plan.shares, step_size(config), plan.steps - plan.warm, seed=plan.seed),
        **flops(
            student, rows, learnt=trail.inputs, read=read,
            teacher=teacher if "teacher" in loss.needs and rows.taught is None else None,
            reference=(teacher, lesson.read) if teacher and lesson.read else None,
        ),
        **lesson.facts,
        **(stopping.facts() if stopping else {}),
        **({"surpassed_at": learner.race.won_at or None} if learner.race else {}),
    }  # fmt: skip
    save(student, folder)  # last: it merges LoRA into the model
    write_log(trail.lines, folder)
    return facts


def follow(
    learner: LMWithLoss | ClassifierWithLoss,
    rows: TokenizedRows | ClassifierRows,
    plan: Plan,
    config: TrainConfig,
    *,
    prompts: TokenizedRows | None = None,
    stopping: Stopping | None = None,
    on_step: OnStep | None = None,
    checkpoints: Checkpoints | None = None,
    also: Stateful | None = None,
) -> StepLog:
    """Run all steps of a plan, looking at the loss every `LOOK_EVERY`.

    prompts: what the warm steps of the plan learn. stopping: what may end it early, and leaves the
    best weights behind.
    checkpoints: where to take up what was killed, and to save what is due; `also`: who beside
    learner and stopping has a state to save. While there are any,
    SIGINT and SIGTERM wait for the step to be done and saved (four seconds at most).
    """
    trail, pending = StepLog(), list[Step]()
    work = TrainerModule.begin(learner, config, accelerator())
    keeper = CheckpointSaver(checkpoints, plan, work, stopping or also) if checkpoints else None
    done = keeper.resume(trail) if keeper else 0
    moving = optimizer_steps(
        learner, rows, plan, config, accelerator=accelerator(), work=work, done=done,
        prompts=prompts,
    )  # fmt: skip
    watch = stopping or NoStopping()
    if not done:
        watch.look(0)
    with defer_interrupts(keeper is not None) as signals:
        while not watch.over and (step := next(moving, None)):
            pending.append(step)
            asked = keeper.asked(step.step, signals.signum) if keeper else NOTHING
            look = step.step % LOOK_EVERY == 0 or step.step == plan.steps
            judged = watch.due(step.step, plan.steps)
            if look or judged or asked.save:
                trail.add(pending)
                pending.clear()
            if judged:
                trail.lines[-1]["validation"] = watch.look(step.step)
            if look and on_step:
                on_step(step.step, plan.steps, trail.lines[-1]["loss"])
            if keeper and asked.save:
                keeper.save(step.step, trail)
            if asked.signum:
                signals.answer(asked.signum)
    watch.restore()
    return trail


def stopping_of(
    student: Student,
    learner: LMWithLoss,
    plan: Plan,
    config: TrainConfig,
    validation: Mapping[str, Sequence[Example]],
) -> Stopping | None:
    """What ends the training early and keeps the best weights, where the config asks for it."""
    if config.stop == "none":
        return None
    limit = window(config, student.loaded)
    rows = {name: encode_rows(held, student.loaded, limit) for name, held in validation.items()}
    rule = Rule.of(
        config.stop, plan.steps, every=config.stop_every, patience=config.stop_patience
    )  # fmt: skip
    return Stopping(learner, rows, rule, bf16=student.bf16)


def build_learner(
    student: Student, loss: Loss, rows: TokenizedRows, teacher: Loaded | None
) -> LMWithLoss:
    """Student and loss, with teacher and base attached only where the loss needs them.

    Rows that bring what a stored teacher says need no teacher in memory.
    """
    base = None
    if "base" in loss.needs:
        base = FrozenBase(student.causal, lora=student.model if student.peft else None)
    if "teacher" not in loss.needs:
        return LMWithLoss(student.causal, loss, base=base)
    vocabulary = len(student.loaded.tokenizer)
    if rows.taught is not None:
        return LMWithLoss(student.causal, loss, base=base, vocabulary=vocabulary)
    taught = check_teacher(student.loaded, teacher, max(rows.lengths))
    taught.model.to(accelerator().device)
    return LMWithLoss(student.causal, loss, teacher=taught.model, base=base, vocabulary=vocabulary)


def make_plan(
    student: Student,
    rows: TokenizedRows | ClassifierRows,
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
        steps=config.warmup_lm + (steps or plan_steps(len(rows), config, world=world)),
        learning_rate=learning_rate,
        seed=seed,
        bf16=student.bf16,
        shares=shares_of(rows, config),
        warm=config.warmup_lm,
    )


def about(student: Student, rows: TokenizedRows | ClassifierRows) -> dict[str, Any]:
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
        **student.loaded.origin,
    }


def of_run(
    plan: Plan, rows: TokenizedRows | ClassifierRows, config: TrainConfig, trail: StepLog
) -> dict[str, Any]:
    """Facts about how it went."""
    batch, done = step_size(config), len(trail.lines)
    return {
        "steps": done,
        "epochs": max(0, done - plan.warm) * batch / len(rows),
        "batch_size": batch,
        "learning_rate": plan.learning_rate,
        "tokens_seen": trail.tokens,
        "input_tokens_seen": trail.inputs,
        "first_loss": trail.lines[0]["loss"],
        "final_loss": trail.final,
    }


def step_size(config: TrainConfig) -> int:
    """Rows behind one optimizer step, all ranks together."""
    return rows_per_step(config, world=accelerator().num_processes)
