"""train: one strong model per arm and seed, all with the same number of optimizer steps."""

import hashlib
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilotfish.config import TrainConfig
from pilotfish.errors import UsageError
from pilotfish.flows.arms import Arm
from pilotfish.flows.costs import training_cost
from pilotfish.flows.extras import need_torch
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.flows.reading import hold_out
from pilotfish.flows.rows import Training, rows_of, selection_of, the_weak
from pilotfish.flows.selection import freshen
from pilotfish.flows.weak import fingerprint
from pilotfish.records import Example
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded


def train_arm(
    run: Run, arm: Arm, seed: int, training: Training, *, progress: Progress = SILENT
) -> None:
    """Train one arm with one seed into train/<arm>/seed-<n>/, or reuse an intact one."""
    need_torch("training", extra="train")
    from pilotfish.train import train

    loss = arm.loss or training.config.loss
    config = training.config.model_copy(update={"loss": loss})
    rows = rows_of(run, arm, seed, training, progress=progress)
    selection = selection_of(arm, seed, tuned=bool(training.trusted)) if arm.selection else None
    facts = {
        "arm": arm.name,
        "seed": seed,
        "selection": selection,
        "trusted_rows": len(training.trusted) if arm.trusted else 0,
        "rows_digest": fingerprint(rows),
        "key": _key(arm, seed, training, config, rows),
    }
    manifest = f"train/{arm.name}/seed-{seed}/manifest.json"
    found = run.store.manifest(manifest)
    if found is not None and found.get("key") == facts["key"]:
        freshen(run, f"train/{arm.name}/seed-{seed}")
        return
    teacher = _teacher(run, loss, seed, training)
    stage = f"train {arm.name} seed {seed}"
    start = time.monotonic()
    with run.store.attempt(manifest) as attempt:
        folder = attempt.folder(f"train/{arm.name}/seed-{seed}")
        result = train(
            rows, training.strong, config, seed=seed, folder=folder, steps=training.steps,
            learning_rate=_rate(arm, training, rows, seed, teacher), teacher=teacher,
            on_step=lambda step, steps, loss: progress.step(stage, step, steps),
        )  # fmt: skip
        attempt.meta = {**result, **facts}
    freshen(run, f"train/{arm.name}/seed-{seed}")
    run.cost(
        "train",
        f"{arm.name} seed {seed}",
        seconds=time.monotonic() - start,
        rows=len(rows),
        **training_cost(result),
    )


def _key(
    arm: Arm, seed: int, training: Training, config: TrainConfig, rows: Sequence[Example]
) -> str:
    facts = {
        "arm": arm.name,
        "seed": seed,
        "strong": training.strong,
        "weak": training.weak if "kd" in config.loss else None,
        "trusted": fingerprint(training.trusted),
        "steps": training.steps,
        "config": config.model_dump(mode="json"),
        "rows": fingerprint(rows),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _teacher(run: Run, loss: str, seed: int, training: Training) -> "Loaded | None":
    from pilotfish.losses import make_loss

    return the_weak(run, training, seed) if make_loss(loss).needs_teacher else None


def _rate(
    arm: Arm, training: Training, rows: Sequence[Example], seed: int, teacher: "Loaded | None"
) -> float | None:
    """The arm's learning rate: one value, or the best of a few on held-out trusted rows."""
    given = training.config.learning_rate
    if not isinstance(given, list):
        return given
    if arm.name not in training.rates:
        from pilotfish.train import pick_learning_rate

        if not training.trusted:
            raise UsageError(
                "train.learning_rate is a list, but there are no trusted rows to choose on",
                hint="give one value, or trusted rows with --trusted",
            )
        _, held = hold_out(training.trusted, max(1, len(training.trusted) // 5), seed)
        held_ids = {example.id for example in held}
        kept = [example for example in rows if example.id not in held_ids]
        config = training.config.model_copy(
            update={"learning_rate": None, "loss": arm.loss or training.config.loss}
        )
        training.rates[arm.name] = pick_learning_rate(
            kept or rows, training.strong, config, given, held, seed=seed,
            steps=training.steps or 1, teacher=teacher,
        )  # fmt: skip
    return training.rates[arm.name]
