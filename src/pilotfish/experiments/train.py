"""train: train one strong model per arm and seed, all with the same number of optimizer steps."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pilotfish.arms.arms import Arm, arms_for
from pilotfish.arms.matched_compute import steps_of
from pilotfish.arms.training_data import (
    GOLD,
    REPLAY,
    TrainingData,
    TrainingPlan,
    as_oracle,
    check_teachers,
    check_training_data,
    hold_out_gold,
    selection_name_of,
    training_data_of,
)
from pilotfish.config import TrainConfig
from pilotfish.config.recipe import command_settings
from pilotfish.data import overlap_keys
from pilotfish.data.held_out import stored_test_rows
from pilotfish.data.run_pool import (
    fingerprint,
    open_run,
    pool_of,
    read_extra_rows,
    source_of_run,
    warn,
)
from pilotfish.errors import UsageError, need_torch
from pilotfish.flops import training_cost
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Example
from pilotfish.run_context import RunContext
from pilotfish.scoring.weak_model import weak_of_run
from pilotfish.selection.files import kept_of, refresh
from pilotfish.store import Run, run_lock
from pilotfish.training.teacher.cache import cached_teacher_outputs, captured_as
from pilotfish.training.torchrun import follower_loop, is_follower, lead, run_on_all_ranks

if TYPE_CHECKING:
    from pilotfish.models import Loaded
    from pilotfish.training.teacher.outputs import TeacherOutputs
    from pilotfish.training.validation import StepCallback

# Settings that change how training runs, but not the weights. A stored teacher is part of
# `made_from` by itself.
CHANGE_NOTHING = {"save_steps", "save_seconds", "parallel"}
CHANGE_NOTHING |= {"teacher", "teacher_kind", "teacher_top_k"}
MIN_CAPTURED = 0.95  # share of the teacher's probability; a smaller one gives a warning


class TrainingRecorder(Protocol):
    """Follows one training, and adds to what is committed with the model."""

    @property
    def callback(self) -> "StepCallback | None":
        """The callback of the training loop; None: none."""
        ...

    def finish(self, folder: Path) -> dict[str, Any]:
        """Write further files into the folder of the trained model; return manifest fields."""
        ...


@dataclass(frozen=True)
class TrainingJob:
    """One model to train and commit, for any kind of experiment.

    Attributes:
        arm: With `seed` it names the folder train/<arm>/seed-<seed>/.
        seed: Number of the seed in the experiment.
        model: Name or folder of the model to start from.
        config: Training settings of this model, its loss among them.
        data: Rows, targets and validation rows.
        random_seed: Seed of the order of rows, of dropout and of new weights.
        made_from: Everything that decides the weights, as JSON. A committed model is reused only
            if its manifest has the same.
        facts: Further fields of the manifest.
        steps: Optimizer steps; None: as many as the rows are worth.
        teacher: The weak model, for a loss or a token selection that needs it in memory.
        teacher_outputs: Stored outputs of the teacher by row name, in place of the teacher.
        rate_rows: Trusted rows that choose among several learning rates.
        recorder: Follows the training; None: nothing more is written.
    """

    arm: str
    seed: int
    model: str
    config: TrainConfig
    data: TrainingData
    random_seed: int
    made_from: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    teacher: "Loaded | None" = None
    teacher_outputs: "Mapping[str, TeacherOutputs] | None" = None
    rate_rows: Sequence[Example] = ()
    recorder: TrainingRecorder | None = None

    @property
    def folder(self) -> str:
        """Where the model is committed, below the run."""
        return train_folder(self.arm, self.seed)


def train_folder(arm: str, seed: int) -> str:
    """Return the folder of the model of one arm and seed, below the run."""
    return f"train/{arm}/seed-{seed}"


def is_trained(run: Run, arm: str, seed: int, made_from: Mapping[str, Any]) -> bool:
    """Whether an intact model of an arm and seed was made from exactly this."""
    return run.store.holds(f"{train_folder(arm, seed)}/manifest.json", {"made_from": made_from})


def train_model(ctx: RunContext, job: TrainingJob) -> dict[str, Any]:
    """Train one model, commit it with its manifest, and charge its cost.

    A killed training continues from its newest checkpoint. Results of an earlier model of the same
    arm and seed are withdrawn first.

    Args:
        ctx: The run that the model becomes part of.
        job: What to train, on what, and how.

    Returns:
        The report of the training loop: rows, tokens, steps, losses and more.

    Raises:
        UsageError: A list of learning rates without trusted rows to choose on, or a loss that
            does not fit model, teacher or targets.
        DataError: No row has a token to learn.
    """
    ctx.store.forget(f"judge/{job.arm}/seed-{job.seed}.json")
    start = time.monotonic()
    rate = _learning_rate(ctx.run, job)
    with ctx.store.attempt(f"{job.folder}/manifest.json") as attempt:
        folder = attempt.folder(job.folder)
        result = _fit(ctx, job, folder, rate)
        recorded = job.recorder.finish(folder) if job.recorder else {}
        names = {"arm": job.arm, "seed": job.seed}
        attempt.meta = {**result, **names, **job.facts, **recorded, "made_from": job.made_from}
    seconds, rows = time.monotonic() - start, len(job.data.rows)
    cost = training_cost(result)
    ctx.run.cost("train", f"{job.arm} seed {job.seed}", seconds=seconds, rows=rows, **cost)
    return result


def _fit(ctx: RunContext, job: TrainingJob, folder: Path, rate: float | None) -> dict[str, Any]:
    """Call the trainer that fits the data, on every rank of a distributed run."""
    from pilotfish.training.checkpoint import Checkpoints
    from pilotfish.training.classify import train_classifier
    from pilotfish.training.trainer import train

    def show(text: str) -> None:
        ctx.progress.note(f"warning: {text}")
        ctx.run.event("warning", text=text)

    # checkpoints of other settings or rows have another key and are never used
    key = hashlib.sha256(json.dumps(job.made_from, sort_keys=True).encode()).hexdigest()
    data, config, name = job.data, job.config, f"train {job.arm} seed {job.seed}"
    checkpoints = Checkpoints(
        ctx.store, job.folder, key, steps=config.save_steps, seconds=config.save_seconds, warn=show
    )
    shared: dict[str, Any] = {
        "seed": job.random_seed,
        "folder": folder,
        "steps": job.steps,
        "learning_rate": rate,
        "checkpoints": checkpoints,
        "on_step": lambda step, steps, loss: ctx.progress.step(name, step, steps),
        "callback": job.recorder.callback if job.recorder else None,
    }
    if data.labels is not None:
        return train_classifier(
            data.rows, job.model, config, classes=data.labels.classes,
            targets=data.labels.targets, validation=data.labels.validation, **shared,
        )  # fmt: skip
    result: dict[str, Any] = run_on_all_ranks(
        train, data.rows, job.model, config, teacher=job.teacher,
        teacher_outputs=job.teacher_outputs, row_info=data.known,
        validation=data.validation, **shared,
    )  # fmt: skip
    return result


def _learning_rate(run: Run, job: TrainingJob) -> float | None:
    """Choose one of several learning rates on trusted rows; seed 0 chooses for all seeds."""
    rates = job.config.learning_rate
    if not isinstance(rates, list):
        return None
    if not job.rate_rows:
        raise UsageError(
            "train.learning_rate is a list, but there are no trusted rows to choose on",
            hint="give one value, or trusted rows with --trusted",
        )
    first = run.store.manifest(f"{train_folder(job.arm, 0)}/manifest.json")
    # seeds of an arm differ in their random draws alone
    alike = ("strong", "steps", "config", "chosen_on", "taught")
    if job.seed and first:
        old = first["made_from"]
        if all(old.get(key) == job.made_from.get(key) for key in alike):
            return float(first["learning_rate"])
    from pilotfish.training.tune import pick_learning_rate

    kept = job.data.without(job.rate_rows)
    # rates are compared by whole models, and FSDP2 leaves a whole model on no rank
    plain = job.config.model_copy(update={"learning_rate": None, "parallel": "ddp"})
    best: float = run_on_all_ranks(
        pick_learning_rate, kept.rows, job.model, plain, rates, job.rate_rows,
        seed=job.random_seed, steps=job.steps, teacher=job.teacher,
        teacher_outputs=job.teacher_outputs, row_info=kept.known,
    )  # fmt: skip
    return best


def forget_checkpoints(run: Run, folder: str) -> None:
    """Remove the checkpoints of a model that is committed, or to be trained from the start."""
    if any(run.store.path(folder).glob("ckpt-*")):
        from pilotfish.training.checkpoint import Checkpoints

        Checkpoints(run.store, folder, key="").clear()


def train_arm(ctx: RunContext, arm: Arm, seed: int, plan: TrainingPlan) -> None:
    """Train one arm of a comparison with one seed, or reuse an intact model.

    Args:
        ctx: The run with the arm's selection.
        arm: Its rows and settings.
        seed: Number of the seed.
        plan: What all arms share: strong model, settings, weak model, trusted rows, steps.
    """
    need_torch("training", extra="train")
    run, config, folder = ctx.run, arm.config(plan.config), train_folder(arm.name, seed)
    data = training_data_of(ctx, arm, seed, plan)
    # the weak model: a loss learns from it, or the selection of tokens compares with it
    needed = config.focus or _needs_teacher(config.loss)
    teacher = plan.weak(seed if plan.tuned else 0) if needed else None
    made_from = _made_from(arm, seed, plan, data, teacher)
    if not is_trained(run, arm.name, seed, made_from):
        outputs = None
        if "taught" in made_from and teacher is not None:
            outputs = cached_teacher_outputs(
                run, data.rows, teacher, config, strong=plan.strong, seed=plan.seed,
                progress=ctx.progress,
            )  # fmt: skip
            teacher = teacher if config.focus else None  # frees its memory while the arm trains
        selection = selection_name_of(run, arm, seed, tuned=plan.tuned) if arm.selection else None
        facts = {"selection": selection, "trusted_rows": data.count(GOLD)}
        facts |= {"replay_rows": data.count(REPLAY)} if config.replay else {}
        facts["rows_digest"] = made_from["rows"]
        several_rates = isinstance(config.learning_rate, list) and plan.trusted
        rate_rows = hold_out_gold(plan) if several_rates else ()
        job = TrainingJob(
            arm.name, seed, plan.strong, config, data, plan.stream(seed), made_from, facts,
            plan.steps, teacher, outputs, rate_rows,
        )  # fmt: skip
        _warn(ctx, arm.name, train_model(ctx, job))
    forget_checkpoints(run, folder)
    refresh(run, folder)


def _needs_teacher(loss: str) -> bool:
    from pilotfish.losses import make_loss

    return "teacher" in make_loss(loss).needs


def _made_from(
    arm: Arm, seed: int, plan: TrainingPlan, data: TrainingData, teacher: "Loaded | None"
) -> dict[str, Any]:
    """Describe all that decides the weights; models by their content, never by their names."""
    from pilotfish.training.parallel import world

    config, ranks = arm.config(plan.config), world()
    cached = config.teacher == "cached" and _needs_teacher(config.loss)
    several_rates = isinstance(config.learning_rate, list)
    held_out = {name: fingerprint(rows) for name, rows in data.validation.items()}
    return {
        "arm": arm.name,
        "stream": plan.stream(seed),
        "strong": plan.strong_digest,
        "teacher": teacher.digest if teacher else None,
        "steps": plan.steps,
        "config": config.model_dump(mode="json", exclude=CHANGE_NOTHING),
        "rows": fingerprint(data.rows),
        **({"validation": held_out} if held_out else {}),
        # trusted rows choose among several learning rates, also for arms that do not learn them
        "chosen_on": fingerprint(plan.trusted) if several_rates else None,
        **({"taught": captured_as(config, plan.strong, plan.seed)} if cached else {}),
        **({"world": ranks} if ranks > 1 else {}),  # each rank adds rows to a step
    }


def _warn(ctx: RunContext, arm: str, result: Mapping[str, Any]) -> None:
    """Show and store the warnings of a training."""
    texts = [f"arm {arm}: {text}" for text in result.get("warnings", ())]
    if result.get("oracle"):
        texts.append(
            f"the arm {arm} is an oracle: it was stopped by labels that are unknown in practice"
        )
    if (mass := result.get("captured_mass", 1.0)) < MIN_CAPTURED:
        texts.append(
            f"the stored teacher of arm {arm} holds {mass:.1%} of its probability: raise "
            "train.teacher_top_k"
        )
    for text in texts:
        ctx.progress.note(f"warning: {text}")
    warn(ctx.run, texts)


def train_arms(
    out: str,
    strong: str,
    *,
    arms: Sequence[str],
    loss: str | None = None,
    weak: str | None = None,
    trusted: str | None = None,
    seeds: int = 1,
    overrides: Sequence[str] = (),
    force: bool = False,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Train arms on the selections of a run: the command `train`.

    Settings are those of the run's recipe if it has one, changed by `overrides`. Under torchrun
    all processes train together.

    Args:
        out: The run folder.
        strong: Name or folder of the strong model.
        arms: Names of the arms.
        loss: LOSS of all arms; None: the one of the settings.
        weak: The weak model for losses that need one; None: the one that scored the run.
        trusted: DATA with trusted rows; None: those that the weak model was tuned on.
        seeds: Number of seeds of every arm.
        overrides: Settings as `train.name=value`.
        force: Train again what is there.
        progress: Receives steps and warnings.

    Returns:
        One manifest per model; nothing on all ranks but the first.

    Raises:
        UsageError: An arm, a setting or a selection is missing or not possible.
    """
    need_torch("training", extra="train")
    if is_follower():
        follower_loop()
        return []
    with run_lock(open_run(out).root) as store, lead():
        from pilotfish.models import count_parameters, set_threads

        ctx = RunContext(Run(store.root), progress, force)
        run, tuned_on = ctx.run, ctx.run.section("weak").get("trusted")
        config = train_config(run, overrides, loss)
        chosen = arms_for("none", trusted=bool(trusted or tuned_on), names=arms)
        if untrained := [arm.name for arm in chosen if not arm.trained]:
            raise UsageError(
                f"the arm {', '.join(untrained)} is not trained: it is evaluated as it is",
                hint=f"pilotfish evaluate RUN --arm {','.join(untrained)}",
            )
        chosen = [as_oracle(arm, config) for arm in chosen]
        check_teachers([arm.config(config) for arm in chosen])
        needs_trusted = any(arm.trusted for arm in chosen) or config.stop != "none"
        rows: Sequence[Example] = ()
        data = trusted or tuned_on
        if data and (needs_trusted or isinstance(config.learning_rate, list)):
            tests = overlap_keys(stored_test_rows(run))
            rows = read_extra_rows(source_of_run(run), data, exclude=tests).examples
        check_training_data([(arm, config) for arm in chosen], trusted=bool(rows))
        plan = _plan(run, strong, config, weak, rows)
        set_threads(count_parameters(strong))
        plan = replace(plan, steps=_steps(run, plan, chosen[0]))
        models = [(arm, seed) for seed in range(seeds) for arm in chosen]
        for arm, seed in models:
            if force:
                store.forget(f"{train_folder(arm.name, seed)}/manifest.json")
                forget_checkpoints(run, train_folder(arm.name, seed))
            steps = steps_of(run, arm, seed, plan, len(pool_of(run)))
            train_arm(ctx, arm, seed, replace(plan, steps=steps))
        run.update(status="trained")
        folders = [train_folder(arm.name, seed) for arm, seed in models]
        found = {folder: store.require(f"{folder}/manifest.json") for folder in folders}
        return [
            {**facts, "folder": str(store.root / folder), "files": len(facts["files"])}
            for folder, facts in found.items()
        ]


def _plan(
    run: Run, strong: str, config: TrainConfig, weak: str | None, trusted: Sequence[Example]
) -> TrainingPlan:
    """Collect what all arms share, from the run and the options of the command."""
    from pilotfish.models import identify, load

    def load_weak(seed: int) -> "Loaded":
        return load(weak) if weak else weak_of_run(run, seed)

    tuned = bool(run.section("weak").get("trusted"))
    seed = int(run.section("config").get("seed", 0))
    return TrainingPlan(strong, identify(strong), config, load_weak, trusted, tuned, seed)


def train_config(run: Run, overrides: Sequence[str], loss: str | None = None) -> TrainConfig:
    """Return the recipe's `train:` settings, changed by `--set train.a=value` and `--loss`."""
    known = run.section("config").get("train", {})
    recipe = command_settings(overrides, only=("train",), train=known)
    return recipe.train.model_copy(update={"loss": loss}) if loss else recipe.train


def _steps(run: Run, plan: TrainingPlan, first: Arm) -> int:
    """Return the steps of every arm: those of the run's selection, else of the first arm's rows."""
    from pilotfish.data_order import plan_steps
    from pilotfish.training.parallel import world

    selections = run.section("selections")
    if "selected" in selections:
        rows = int(selections["selected"]["delivered"])
    elif first.rows == "selection":
        rows = len(kept_of(run, selection_name_of(run, first, 0, tuned=False)))
    else:
        rows = len(plan.trusted) if first.rows == "none" else len(pool_of(run))
    return plan_steps(rows, plan.config, world=world())
