"""Small searches on trusted rows: tuning the weak model, and picking a learning rate."""

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
from pilotfish.training.loop import Plan
from pilotfish.training.loop import steps as optimizer_steps
from pilotfish.training.save import restore, save, snapshot, write_log
from pilotfish.training.setup import Student, accelerator, default_learning_rate, prepare, seeded
from pilotfish.training.teacher.outputs import TeacherOutputs
from pilotfish.training.trainer import about, build_learner, make_plan
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


def tune(
    examples: Sequence[Example], base: str, *, seed: int, folder: Path, config: WeakTrainConfig
) -> dict[str, Any]:
    """Tune the weak model on trusted rows (LM loss), write it into `folder`, return the facts.

    A fifth of the rows, chosen by hash of seed and content, is held out. After each of ten epochs
    the response loss on it is taken (three without progress end it), and the epoch where it is
    lowest is kept; epoch 0, the model as it came, competes too. `config` gives lengths, LoRA,
    schedule and learning rate: a list is tried in full, None tries three shares of the rule of
    thumb.

    Raises DataError below two usable rows, UsageError for a model whose loss is no number.
    """
    settings = TrainConfig(**{name: getattr(config, name) for name in WeakTrainConfig.model_fields})
    with seeded(seed):
        student = prepare(base, settings)
    rows = encode_rows(examples, student.loaded, window(settings, student.loaded))
    learned, held = split_fifth(rows, seed=seed)
    few, start = for_few_rows(settings, len(learned)), snapshot(student)
    trials = []
    for rate in _rates(config, student):
        restore(student, start)
        plan = make_plan(student, learned, few, seed=seed, steps=None, learning_rate=rate)
        with seeded(seed):
            trials.append(_try(student, learned, held, plan=plan, config=few))
    best = min(trials, key=lambda trial: min(trial.losses))
    restore(student, best.weights)
    inputs, looks = sum(t.inputs for t in trials), sum(len(t.losses) for t in trials)
    facts = {
        "base": base,
        "base_digest": student.loaded.digest,
        **about(student, rows),
        **_outcome(best, len(learned), len(held)),
        "batch_size": few.per_device_train_batch_size,
        "learning_rates_tried": [trial.learning_rate for trial in trials],
        "steps": sum(trial.steps for trial in trials),
        "input_tokens_seen": inputs,
        **flops(student, rows, learnt=inputs, read=looks * sum(held.lengths)),
    }
    save(student, folder)
    write_log(_log(trials), folder)
    return facts


def _outcome(best: Trial, learned: int, held: int) -> dict[str, Any]:
    kept = min(range(len(best.losses)), key=best.losses.__getitem__)
    return {
        "learned_rows": learned,
        "held_out_rows": held,
        "learning_rate": best.learning_rate,
        "epochs": len(best.losses) - 1,
        "kept_epoch": kept,
        "held_out_loss_before": best.losses[0],
        "held_out_loss": best.losses[kept],
    }


def _log(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """A line per rate and epoch; None where the loss was no number."""
    return [
        {
            "lr": trial.learning_rate,
            "epoch": epoch,
            "held_out_loss": loss if math.isfinite(loss) else None,
        }
        for trial in trials
        for epoch, loss in enumerate(trial.losses)
    ]


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
    taught: Mapping[str, TeacherOutputs] | None = None,
    known: RowInfo | None = None,
) -> float:
    """The candidate whose model has the lowest response loss on `heldout`; ties: the smaller.

    Each candidate gets a full training of `steps` steps (None: `plan_steps` of the rows), so this
    costs as much as the arms do; none is stopped early. A candidate that diverges is out;
    UsageError when all do.
    """
    if not candidates:
        raise UsageError("there is no learning rate to try")
    found: list[tuple[float, float]] = []
    loss = make_loss(config.loss)
    for rate in sorted(set(candidates)):
        with seeded(seed):
            student = prepare(strong, config)
            longest = window(config, student.loaded)
            lesson = training_set_of(
                examples, student, loss, config, known=known, teacher=teacher, taught=taught
            )
            rows = lesson.rows
            plan = make_plan(student, rows, config, seed=seed, steps=steps, learning_rate=rate)
            learner = build_learner(student, loss, rows, teacher)
            for _ in optimizer_steps(
                learner, rows, plan, config, accelerator=accelerator(), prompts=lesson.prompts
            ):
                pass
            nats = held_out_loss(student, encode_rows(heldout, student.loaded, longest))
        if math.isfinite(nats):
            found.append((nats, rate))
    if not found:
        raise UsageError(
            f"training diverged at every learning rate tried: {sorted(set(candidates))}",
            hint="try smaller ones",
        )
    return min(found)[1]


def _rates(config: WeakTrainConfig, student: Student) -> list[float]:
    """The rates to try, smallest first."""
    given = config.learning_rate
    if given is None:
        rule = default_learning_rate(student.trained, peft=student.peft)
        return [rule * share for share in SHARES]
    return sorted(set(given)) if isinstance(given, list) else [given]


def for_few_rows(config: TrainConfig, n_rows: int) -> TrainConfig:
    """The tuning settings: batches small enough to make some steps."""
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
    learned: TokenizedRows,
    held: TokenizedRows,
    *,
    plan: Plan,
    config: TrainConfig,
) -> Trial:
    """Train from where the student stands, looking at the held-out loss after each epoch."""
    losses = [held_out_loss(student, held)]
    if not math.isfinite(losses[0]):
        raise UsageError(f"'{student.loaded.name}' gives held-out rows a loss of {losses[0]}")
    best, kept, inputs, done = snapshot(student), 0, 0, 0
    learner = LMWithLoss(student.causal, LM())
    for step in optimizer_steps(learner, learned, plan, config, accelerator=accelerator()):
        inputs, done = inputs + step.inputs, step.step
        if step.step % (plan.steps // EPOCHS):
            continue
        loss = held_out_loss(student, held)
        losses.append(loss if math.isfinite(loss) else math.inf)
        if losses[-1] < losses[kept]:
            best, kept = snapshot(student), len(losses) - 1
        if len(losses) - 1 - kept >= PATIENCE:
            break
    return Trial(plan.learning_rate, losses, best, done, inputs)
