"""train: one strong model per arm and seed, all with the same number of optimizer steps."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pilotfish.arms.arms import Arm, arms_for
from pilotfish.arms.matched_compute import steps_of
from pilotfish.arms.rows import TrainingPlan, selection_name_of
from pilotfish.arms.training_data import (
    GOLD,
    REPLAY,
    TrainingData,
    as_oracle,
    check_teachers,
    check_training_data,
    hold_out_gold,
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
from pilotfish.errors import UsageError
from pilotfish.extras import need_torch
from pilotfish.flops import training_cost
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Example
from pilotfish.scoring.weak_model import weak_of_run
from pilotfish.selection.files import kept_of, refresh
from pilotfish.store import Run, Store, run_lock
from pilotfish.training.teacher.cache import cached_teacher_outputs, captured_as
from pilotfish.training.torchrun import follower_loop, is_follower, lead, run_on_all_ranks

if TYPE_CHECKING:
    from pilotfish.models import Loaded
    from pilotfish.training.checkpoint import Checkpoints
    from pilotfish.training.teacher.outputs import TeacherOutputs
    from pilotfish.training.validation import StepCallback

# Settings that change how training runs, and not the weights.
CHANGE_NOTHING = {
    "save_steps", "save_seconds", "parallel",
    "teacher", "teacher_kind", "teacher_top_k",  # a stored teacher is named by itself
}  # fmt: skip
LITTLE = 0.95  # of a teacher's probability: less stored is warned of


class TrainingRecorder(Protocol):
    """Follows one training, and adds to what is committed with the model."""

    @property
    def callback(self) -> "StepCallback | None":
        """What to call during training; None: nothing."""
        ...

    def finish(self, folder: Path) -> dict[str, Any]:
        """Write further files into the folder of the trained model; return manifest fields."""
        ...


@dataclass(frozen=True)
class TrainingJob:
    """One model to train and commit, whatever experiment wants it.

    Attributes:
        arm: With `seed` it names the folder train/<arm>/seed-<seed>/.
        seed: Number of the seed in the experiment.
        model: Name or folder of the model to start from.
        config: Training settings of this model, its loss among them.
        data: Rows, targets and validation rows.
        random_seed: Seed of the order of rows, of dropout and of new weights.
        made_from: Everything that decides the weights, as JSON: a committed model is reused only
            where its manifest has the same.
        facts: Further fields of the manifest.
        steps: Optimizer steps; None: as many as the rows are worth.
        teacher: The weak model, for a loss or a token selection that needs it in memory.
        taught: Stored outputs of the teacher by row name, in place of the teacher.
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
    taught: "Mapping[str, TeacherOutputs] | None" = None
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


def train_model(run: Run, job: TrainingJob, *, progress: Progress = SILENT) -> dict[str, Any]:
    """Train one model, commit it with its manifest, and charge its cost.

    A killed training continues from its newest checkpoint. Results of an earlier model of the same
    arm and seed are withdrawn first.

    Args:
        run: The run that the model becomes part of.
        job: What to train, on what, and how.
        progress: Receives steps and warnings.

    Returns:
        What training reports: rows, tokens, steps, losses and more.

    Raises:
        UsageError: A list of learning rates without trusted rows to choose on, or a loss that
            does not fit model, teacher or targets.
        DataError: No row has anything to learn.
    """
    run.store.forget(f"judge/{job.arm}/seed-{job.seed}.json")
    start = time.monotonic()
    rate = _learning_rate(run, job)
    with run.store.attempt(f"{job.folder}/manifest.json") as attempt:
        folder = attempt.folder(job.folder)
        result = _fit(run, job, folder, rate, progress)
        recorded = job.recorder.finish(folder) if job.recorder else {}
        attempt.meta = {
            **result, "arm": job.arm, "seed": job.seed, **job.facts, **recorded,
            "made_from": job.made_from,
        }  # fmt: skip
    run.cost(
        "train", f"{job.arm} seed {job.seed}", seconds=time.monotonic() - start,
        rows=len(job.data.rows), **training_cost(result),
    )  # fmt: skip
    return result


def _fit(
    run: Run, job: TrainingJob, folder: Path, rate: float | None, progress: Progress
) -> dict[str, Any]:
    """Call the trainer that fits the data, on every rank of a distributed run."""
    from pilotfish.training.classify import train_classifier
    from pilotfish.training.trainer import train

    data, name = job.data, f"train {job.arm} seed {job.seed}"
    shared: dict[str, Any] = {
        "seed": job.random_seed,
        "folder": folder,
        "steps": job.steps,
        "learning_rate": rate,
        "checkpoints": checkpoints_of(run, job.folder, job.config, job.made_from, progress),
        "on_step": lambda step, steps, loss: progress.step(name, step, steps),
        "callback": job.recorder.callback if job.recorder else None,
    }
    if data.labels is not None:
        return train_classifier(
            data.rows, job.model, job.config, classes=data.labels.classes,
            targets=data.labels.targets, validation=data.labels.validation, **shared,
        )  # fmt: skip
    found: dict[str, Any] = run_on_all_ranks(
        train, data.rows, job.model, job.config, teacher=job.teacher, teacher_outputs=job.taught,
        row_info=data.known, validation=data.validation, **shared,
    )  # fmt: skip
    return found


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
    # seeds of an arm differ by what they drew alone
    alike = ("strong", "steps", "config", "chosen_on", "taught")
    if job.seed and first:
        old = first["made_from"]
        if all(old.get(key) == job.made_from.get(key) for key in alike):
            return float(first["learning_rate"])
    from pilotfish.training.tune import pick_learning_rate

    kept = job.data.without(job.rate_rows)
    # rates are compared by whole models, which FSDP2 leaves on no rank
    plain = job.config.model_copy(update={"learning_rate": None, "parallel": "ddp"})
    picked: float = run_on_all_ranks(
        pick_learning_rate, kept.rows, job.model, plain, rates, job.rate_rows,
        seed=job.random_seed, steps=job.steps, teacher=job.teacher, teacher_outputs=job.taught,
        row_info=kept.known,
    )  # fmt: skip
    return picked


def forget_checkpoints(run: Run, folder: str) -> None:
    """Remove the checkpoints of a model that is committed, or to be trained from the start."""
    if any(run.store.path(folder).glob("ckpt-*")):
        from pilotfish.training.checkpoint import Checkpoints

        Checkpoints(run.store, folder, key="").clear()


def checkpoints_of(
    run: Run, folder: str, config: TrainConfig, made_from: Mapping[str, Any], progress: Progress
) -> "Checkpoints":
    """Open the checkpoints of one training; those of other settings or rows are never used."""
    from pilotfish.training.checkpoint import Checkpoints

    def say(text: str) -> None:
        progress.note(f"warning: {text}")
        run.event("warning", text=text)

    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    return Checkpoints(
        run.store, folder, key, steps=config.save_steps, seconds=config.save_seconds, warn=say
    )


def train_arm(
    run: Run, arm: Arm, seed: int, training: TrainingPlan, *, progress: Progress = SILENT
) -> None:
    """Train one arm of a comparison with one seed, or reuse an intact model.

    Args:
        run: The run with the arm's selection.
        arm: Which rows are learnt, and how.
        seed: Number of the seed.
        training: What all arms share: strong model, settings, weak model, trusted rows, steps.
        progress: Receives steps and warnings.
    """
    need_torch("training", extra="train")
    config = arm.config(training.config)
    data = training_data_of(run, arm, seed, training, config, progress=progress)
    teacher = _teacher(config, seed, training)
    made_from = _made_from(arm, seed, training, config, data=data, teacher=teacher)
    if not is_trained(run, arm.name, seed, made_from):
        taught = None
        if "taught" in made_from and teacher is not None:
            taught = cached_teacher_outputs(
                run, data.rows, teacher, config, strong=training.strong, seed=training.seed,
                progress=progress,
            )  # fmt: skip
            teacher = teacher if config.focus else None  # from here on it is not in memory
        selection = (
            selection_name_of(run, arm, seed, tuned=training.tuned) if arm.selection else None
        )
        facts = {
            "selection": selection,
            "trusted_rows": data.count(GOLD),
            **({"replay_rows": data.count(REPLAY)} if config.replay else {}),
            "rows_digest": made_from["rows"],
        }
        several = isinstance(config.learning_rate, list) and training.trusted
        job = TrainingJob(
            arm.name, seed, training.strong, config, data, training.stream(seed), made_from, facts,
            training.steps, teacher, taught, rate_rows=hold_out_gold(training) if several else (),
        )  # fmt: skip
        _warn(run, arm.name, train_model(run, job, progress=progress), progress)
    folder = train_folder(arm.name, seed)
    forget_checkpoints(run, folder)
    refresh(run, folder)


def _warn(run: Run, arm: str, result: Mapping[str, Any], progress: Progress) -> None:
    """Log and keep what a reader must know about how a model was trained."""
    texts = [f"arm {arm}: {text}" for text in result.get("warnings", ())]
    if result.get("oracle"):
        texts.append(
            f"the arm {arm} is an oracle: it was stopped by labels that are unknown in practice"
        )
    if (mass := result.get("captured_mass", 1.0)) < LITTLE:
        texts.append(
            f"the stored teacher of arm {arm} holds {mass:.1%} of its probability: raise "
            "train.teacher_top_k"
        )
    for text in texts:
        progress.note(f"warning: {text}")
    warn(run, texts)


def _made_from(
    arm: Arm,
    seed: int,
    training: TrainingPlan,
    config: TrainConfig,
    *,
    data: TrainingData,
    teacher: "Loaded | None",
) -> dict[str, Any]:
    """Describe all that decides the weights; models by their content, never by their names."""
    from pilotfish.training.parallel import world

    cached = config.teacher == "cached" and _needs_teacher(config.loss)
    several = config.learning_rate if isinstance(config.learning_rate, list) else None
    held_out = {name: fingerprint(rows) for name, rows in data.validation.items()}
    return {
        "arm": arm.name,
        "stream": training.stream(seed),
        "strong": training.strong_digest,
        "teacher": teacher.digest if teacher else None,
        "steps": training.steps,
        "config": config.model_dump(mode="json", exclude=CHANGE_NOTHING),
        "rows": fingerprint(data.rows),
        **({"validation": held_out} if held_out else {}),
        # trusted rows choose among several learning rates, also for arms that do not learn them
        "chosen_on": fingerprint(training.trusted) if several else None,
        **({"taught": captured_as(config, training.strong, training.seed)} if cached else {}),
        **({"world": ranks} if (ranks := world()) > 1 else {}),  # each rank adds rows to a step
    }


def _teacher(config: TrainConfig, seed: int, training: TrainingPlan) -> "Loaded | None":
    """The weak model, where the loss learns from it or the focus compares with it."""
    needed = config.focus or _needs_teacher(config.loss)
    return training.weak(seed if training.tuned else 0) if needed else None


def _needs_teacher(loss: str) -> bool:
    from pilotfish.losses import make_loss

    return "teacher" in make_loss(loss).needs


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
    """Train arms on the run's selections; returns one dict per model.

    Settings are those of the run's recipe where it has one, with `overrides` laid on top. Under
    torchrun all processes train together, and all but the first return nothing.
    """
    need_torch("training", extra="train")
    if is_follower():
        follower_loop()
        return []
    with run_lock(open_run(out).root) as store, lead():
        from pilotfish.models import count_parameters, set_threads

        run = Run(store.root)
        chosen = _arms(arms, trusted=bool(trusted or run.section("weak").get("trusted")))
        config = train_config(run, overrides, loss)
        chosen = [as_oracle(arm, config) for arm in chosen]
        check_teachers([arm.config(config) for arm in chosen])
        asks = any(arm.trusted for arm in chosen) or isinstance(config.learning_rate, list)
        rows = _trusted(run, trusted) if asks or config.stop != "none" else ()
        check_training_data([(arm, config) for arm in chosen], trusted=bool(rows))
        training = _training(run, strong, config, weak=weak, trusted=rows)
        set_threads(count_parameters(strong))
        training = replace(training, steps=_steps(run, training, chosen[0]))
        models = [(arm, seed) for seed in range(seeds) for arm in chosen]
        for arm, seed in models:
            if force:
                store.forget(f"{train_folder(arm.name, seed)}/manifest.json")
                forget_checkpoints(run, train_folder(arm.name, seed))
            steps = steps_of(run, arm, seed, training, len(pool_of(run)))
            train_arm(run, arm, seed, replace(training, steps=steps), progress=progress)
        run.update(status="trained")
        return [_told(store, train_folder(arm.name, seed)) for arm, seed in models]


def _arms(names: Sequence[str], *, trusted: bool) -> list[Arm]:
    arms = arms_for("none", trusted=trusted, names=names)
    if untrained := [arm.name for arm in arms if not arm.trained]:
        raise UsageError(
            f"nothing is trained for the arm {', '.join(untrained)}: it is judged as it is",
            hint=f"pilotfish evaluate RUN --arm {','.join(untrained)}",
        )
    return arms


def train_config(run: Run, overrides: Sequence[str], loss: str | None = None) -> TrainConfig:
    """The recipe's `train:` settings with `--set train.a=value` and `--loss` laid on top."""
    known = run.section("config").get("train", {})
    recipe = command_settings(overrides, only=("train",), train=known)
    return recipe.train.model_copy(update={"loss": loss}) if loss else recipe.train


def _trusted(run: Run, data: str | None) -> Sequence[Example]:
    """The trusted rows given, else those the weak model was tuned on; none that is judged on."""
    vouched = data or run.section("weak").get("trusted")
    if not vouched:
        return ()
    asked = overlap_keys(stored_test_rows(run))
    return read_extra_rows(source_of_run(run), vouched, exclude=asked).examples


def _training(
    run: Run,
    strong: str,
    config: TrainConfig,
    *,
    weak: str | None,
    trusted: Sequence[Example],
) -> TrainingPlan:
    from pilotfish.models import identify, load

    def teacher(seed: int) -> "Loaded":
        return load(weak) if weak else weak_of_run(run, seed)

    return TrainingPlan(
        strong, identify(strong), config, teacher, trusted,
        tuned=bool(run.section("weak").get("trusted")),
        seed=int(run.section("config").get("seed", 0)),
    )  # fmt: skip


def _steps(run: Run, training: TrainingPlan, first: Arm) -> int:
    """Equal steps for every arm: those of the run's selection, else of the first arm's rows."""
    from pilotfish.data_order import plan_steps
    from pilotfish.training.parallel import world

    selections = run.section("selections")
    if "selected" in selections:
        rows = int(selections["selected"]["delivered"])
    elif first.rows == "selection":
        rows = len(kept_of(run, selection_name_of(run, first, 0, tuned=False)))
    else:
        rows = len(training.trusted) if first.rows == "none" else len(pool_of(run))
    return plan_steps(rows, training.config, world=world())


def _told(store: Store, folder: str) -> dict[str, Any]:
    facts = store.require(f"{folder}/manifest.json")
    return {**facts, "folder": str(store.root / folder), "files": len(facts["files"])}
