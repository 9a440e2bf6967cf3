"""train: one strong model per arm and seed, all with the same number of optimizer steps."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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

# Settings that decide how training is done, and not what comes out.
CHANGE_NOTHING = {
    "save_steps", "save_seconds", "parallel",
    "teacher", "teacher_kind", "teacher_top_k",  # a stored teacher is named by itself
}  # fmt: skip
LITTLE = 0.95  # of a teacher's probability: less stored is warned of


def train_folder(arm: str, seed: int) -> str:
    """Where the model of one arm and seed lies below the run."""
    return f"train/{arm}/seed-{seed}"


def train_arm(
    run: Run, arm: Arm, seed: int, training: TrainingPlan, *, progress: Progress = SILENT
) -> None:
    """Train one arm with one seed into train/<arm>/seed-<n>/, or reuse an intact one."""
    need_torch("training", extra="train")
    config = arm.config(training.config)
    material = training_data_of(run, arm, seed, training, config, progress=progress)
    teacher = _teacher(config, seed, training)
    made_from = _made_from(arm, seed, training, config, material=material, teacher=teacher)
    folder = train_folder(arm.name, seed)
    found = run.store.manifest(f"{folder}/manifest.json")
    if found is None or found.get("made_from") != made_from:
        run.store.forget(f"judge/{arm.name}/seed-{seed}.json")  # another model was judged
        selection = (
            selection_name_of(run, arm, seed, tuned=training.tuned) if arm.selection else None
        )
        facts = {
            "arm": arm.name,
            "seed": seed,
            "selection": selection,
            "trusted_rows": material.count(GOLD),
            **({"replay_rows": material.count(REPLAY)} if config.replay else {}),
            "rows_digest": made_from["rows"],
            "made_from": made_from,
        }
        taught = None
        if "taught" in made_from and teacher is not None:
            taught = cached_teacher_outputs(
                run, material.rows, teacher, config, strong=training.strong, seed=training.seed,
                progress=progress,
            )  # fmt: skip
            teacher = teacher if config.focus else None  # from here on it is not in memory
        _train(
            run, material, training, config, facts=facts, teacher=teacher, taught=taught,
            progress=progress,
        )  # fmt: skip
    forget_checkpoints(run, folder)
    refresh(run, folder)


def forget_checkpoints(run: Run, folder: str) -> None:
    """Remove what a training saved on its way: its model is there, or it is to begin anew."""
    if any(run.store.path(folder).glob("ckpt-*")):
        from pilotfish.training.checkpoint import Checkpoints

        Checkpoints(run.store, folder, key="").clear()


def checkpoints_of(
    run: Run, folder: str, config: TrainConfig, made_from: Mapping[str, Any], progress: Progress
) -> "Checkpoints":
    """Where an arm saves what a kill would cost, for this training and no other one."""
    from pilotfish.training.checkpoint import Checkpoints

    def say(text: str) -> None:
        progress.note(f"warning: {text}")
        run.event("warning", text=text)

    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    return Checkpoints(
        run.store, folder, key, steps=config.save_steps, seconds=config.save_seconds, warn=say
    )


def _train(
    run: Run,
    material: TrainingData,
    training: TrainingPlan,
    config: TrainConfig,
    *,
    facts: Mapping[str, Any],
    teacher: "Loaded | None",
    taught: "Mapping[str, TeacherOutputs] | None",
    progress: Progress,
) -> None:
    from pilotfish.training.trainer import train

    arm, seed = facts["arm"], facts["seed"]
    name, folder, start = f"{arm} seed {seed}", train_folder(arm, seed), time.monotonic()
    rate = _rate(run, material, training, config, facts=facts, teacher=teacher, taught=taught)
    with run.store.attempt(f"{folder}/manifest.json") as attempt:
        result = run_on_all_ranks(
            train, material.rows, training.strong, config, seed=training.stream(seed),
            folder=attempt.folder(folder), steps=training.steps, learning_rate=rate,
            teacher=teacher, taught=taught, known=material.known,
            validation=material.validation,
            checkpoints=checkpoints_of(run, folder, config, facts["made_from"], progress),
            on_step=lambda step, steps, loss: progress.step(f"train {name}", step, steps),
        )  # fmt: skip
        attempt.meta = {**result, **facts}
    run.cost(
        "train", name, seconds=time.monotonic() - start, rows=len(material.rows),
        **training_cost(result),
    )  # fmt: skip
    _say(run, arm, result, progress)


def _say(run: Run, arm: str, result: Mapping[str, Any], progress: Progress) -> None:
    """What a reader of the run must know about how this model came to be."""
    texts = [f"arm {arm}: {text}" for text in result.get("warnings", ())]
    if result.get("oracle"):
        texts.append(f"the arm {arm} is an oracle: it was stopped by labels that nobody would have")
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
    material: TrainingData,
    teacher: "Loaded | None",
) -> dict[str, Any]:
    """All that decides the weights; models by their content, never by their names."""
    cached = config.teacher == "cached" and _is_taught(config.loss)
    held = {name: fingerprint(rows) for name, rows in material.validation.items()}
    return {
        "arm": arm.name,
        "stream": training.stream(seed),
        "strong": training.strong_digest,
        "teacher": teacher.digest if teacher else None,
        "steps": training.steps,
        "config": config.model_dump(mode="json", exclude=CHANGE_NOTHING),
        "rows": fingerprint(material.rows),
        **({"validation": held} if held else {}),
        # trusted rows choose among several learning rates, also for arms that do not learn them
        "chosen_on": fingerprint(training.trusted) if _several(config) else None,
        **({"taught": captured_as(config, training.strong, training.seed)} if cached else {}),
        **({"world": world} if (world := _world()) > 1 else {}),  # each rank adds rows to a step
    }


def _world() -> int:
    from pilotfish.training.parallel import world

    return world()


def _teacher(config: TrainConfig, seed: int, training: TrainingPlan) -> "Loaded | None":
    """The weak model, where the loss learns from it or the focus compares with it."""
    asked = config.focus or _is_taught(config.loss)
    return training.weak(seed if training.tuned else 0) if asked else None


def _is_taught(loss: str) -> bool:
    from pilotfish.losses import make_loss

    return "teacher" in make_loss(loss).needs


def _several(config: TrainConfig) -> list[float] | None:
    given = config.learning_rate
    return given if isinstance(given, list) else None


def _rate(
    run: Run,
    material: TrainingData,
    training: TrainingPlan,
    config: TrainConfig,
    *,
    facts: Mapping[str, Any],
    teacher: "Loaded | None",
    taught: "Mapping[str, TeacherOutputs] | None",
) -> float | None:
    """The learning rate of a list: the best on held-out trusted rows; seed 0 chooses for all."""
    several = _several(config)
    if several is None:
        return None
    if not training.trusted:
        raise UsageError(
            "train.learning_rate is a list, but there are no trusted rows to choose on",
            hint="give one value, or trusted rows with --trusted",
        )
    first = run.store.manifest(f"{train_folder(facts['arm'], 0)}/manifest.json")
    if facts["seed"] and first and _alike(first["made_from"], facts["made_from"]):
        return float(first["learning_rate"])
    from pilotfish.training.tune import pick_learning_rate

    held = hold_out_gold(training)
    kept = material.without(held)
    # rates are judged by whole models, which FSDP2 does not leave on any rank
    plain = config.model_copy(update={"learning_rate": None, "parallel": "ddp"})
    picked: float = run_on_all_ranks(
        pick_learning_rate, kept.rows, training.strong, plain, several, held,
        seed=training.stream(facts["seed"]), steps=training.steps, teacher=teacher, taught=taught,
        known=kept.known,
    )  # fmt: skip
    return picked


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two trainings of an arm differ by their seed alone, and what it drew."""
    alike = ("strong", "steps", "config", "chosen_on", "taught")
    return all(one.get(key) == other.get(key) for key in alike)


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
            hint=f"pilotfish judge RUN --arm {','.join(untrained)}",
        )
    return arms


def train_config(run: Run, overrides: Sequence[str], loss: str | None = None) -> TrainConfig:
    """The recipe's `train:` settings with `--set train.a=value` and `--loss` laid on top."""
    known = run.section("config").get("train", {})
    recipe = command_settings(overrides, only="train", train=known)
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
