"""train: one strong model per arm and seed, all with the same number of optimizer steps."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pilotfish.config import TrainConfig
from pilotfish.errors import UsageError
from pilotfish.flows.arms import Arm
from pilotfish.flows.extras import need_torch
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.flows.reading import hold_out
from pilotfish.flows.weak import fingerprint, weak_model
from pilotfish.pool import Pool
from pilotfish.records import Example, Turn
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded


@dataclass(frozen=True)
class Training:
    """What all arms of one comparison share."""

    strong: str
    weak: str
    config: TrainConfig
    trusted: Sequence[Example] = ()
    tune: TrainConfig | None = None
    precision: str = "auto"
    steps: int | None = None
    rates: dict[str, float] = field(default_factory=dict)


def selection_of(arm: Arm, seed: int, *, tuned: bool) -> str:
    """The selection an arm trains on; a tuned weak model picks anew for every seed."""
    name = arm.selection.format(seed=seed)
    return f"{name}-{seed}" if tuned and name in ("selected", "longest") and seed else name


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
        return
    teacher = _teacher(run, loss, seed, training)
    stage = f"train {arm.name} seed {seed}"
    start = time.monotonic()
    with run.store.attempt(manifest) as attempt:
        folder = attempt.folder(f"train/{arm.name}/seed-{seed}")
        result = train(
            rows, training.strong, config, seed=seed, folder=folder, steps=training.steps,
            learning_rate=_rate(arm, training, rows, seed), teacher=teacher,
            on_step=lambda step, steps, loss: progress.step(stage, step, steps),
        )  # fmt: skip
        attempt.meta = {**result, **facts}
    run.cost(
        "train", f"{arm.name} seed {seed}", seconds=time.monotonic() - start, rows=len(rows),
        tokens=float(result.get("tokens_seen", 0)), flops=float(result.get("flops", 0.0)),
    )  # fmt: skip


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


def rows_of(
    run: Run, arm: Arm, seed: int, training: Training, *, progress: Progress = SILENT
) -> list[Example]:
    """The rows an arm learns from: pool rows first, then the trusted ones."""
    pool = pool_of(run)
    rows: list[Example] = []
    if arm.rows == "selection":
        name = selection_of(arm, seed, tuned=bool(training.trusted))
        rows = pool.take(kept_rows(run, name))
    elif arm.rows == "all":
        rows = list(pool.examples())
    elif arm.rows == "relabelled":
        rows = relabelled(run, pool, seed, training, progress=progress)
    return rows + (list(training.trusted) if arm.trusted else [])


def pool_of(run: Run) -> Pool:
    """The run's pool; a run without one names the missing step."""
    if run.store.read_json("pool/manifest.json") is None:
        raise UsageError(
            f"{run.root} holds no pool yet",
            hint=f"pilotfish score DATA --weak MODEL --method METHOD --out {run.root}",
        )
    return Pool.open(run.store)


def kept_rows(run: Run, name: str) -> list[int]:
    """Pool indices of a selection in pick order; a missing one names its command."""
    import numpy as np
    import pyarrow.parquet as pq

    if run.store.read_json(f"selections/{name}/manifest.json") is None:
        raise UsageError(
            f"{run.root} has no selection called '{name}'",
            hint=f"pilotfish select {run.root} --method METHOD --budget 10%",
        )
    run.store.require(f"selections/{name}/manifest.json")
    table = pq.read_table(
        run.store.path(f"selections/{name}/decisions.parquet"), columns=["kept", "rank"]
    )
    kept = table.column("kept").to_numpy(zero_copy_only=False)
    rank = table.column("rank").to_numpy(zero_copy_only=False)
    where = np.flatnonzero(kept)
    return [int(i) for i in where[np.argsort(rank[where])]]


def relabelled(
    run: Run, pool: Pool, seed: int, training: Training, *, progress: Progress = SILENT
) -> list[Example]:
    """Every pool prompt with the weak model's greedy answer, cached in labels/seed-<n>.json."""
    from pilotfish.engine import generate

    weak = weak_model(
        run, training.weak, trusted=training.trusted, seed=seed, config=training.tune,
        precision=training.precision, progress=progress,
    )  # fmt: skip
    examples = [example for example in pool.examples() if example.turns or example.label]
    rel = f"labels/seed-{seed}.json"
    facts = {"weak": weak.digest, "pool": pool.fingerprint}
    found = run.store.manifest(f"labels/seed-{seed}-manifest.json")
    if found is None or found.get("made_from") != facts:
        start = time.monotonic()
        progress.note(f"the weak model answers all {len(examples):,} prompts (seed {seed})")
        room = _answer_room(examples, weak)
        answers = generate(weak, examples, max_new_tokens=room)
        with run.store.attempt(f"labels/seed-{seed}-manifest.json") as attempt:
            attempt.path(rel).write_text(json.dumps(answers, ensure_ascii=False), encoding="utf-8")
            attempt.meta = {"made_from": facts}
        run.cost("label", f"seed {seed}", seconds=time.monotonic() - start, rows=len(examples))
    answers = json.loads(run.store.path(rel).read_text(encoding="utf-8"))
    return [
        _answered(example, text) for example, text in zip(examples, answers, strict=True) if text
    ]


def _answer_room(examples: Sequence[Example], weak: "Loaded") -> int:
    """Tokens an answer may take: the 99th percentile of the pool's own responses, plus a little."""
    sample = [example.response for example in examples[:2000]]
    lengths = sorted(
        len(ids) for ids in weak.tokenizer(sample, add_special_tokens=False)["input_ids"]
    )
    return min(lengths[int(0.99 * (len(lengths) - 1))] + 4, 256)


def _answered(example: Example, answer: str) -> Example:
    if example.turns:
        return replace(example, turns=(*example.prompt, Turn("assistant", answer)))
    return replace(example, label=answer.strip())


def _teacher(run: Run, loss: str, seed: int, training: Training) -> "Loaded | None":
    from pilotfish.losses import make_loss

    if not make_loss(loss).needs_teacher:
        return None
    return weak_model(
        run, training.weak, trusted=training.trusted, seed=seed, config=training.tune,
        precision=training.precision,
    )  # fmt: skip


def _rate(arm: Arm, training: Training, rows: Sequence[Example], seed: int) -> float | None:
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
        config = training.config.model_copy(update={"learning_rate": None})
        training.rates[arm.name] = pick_learning_rate(
            kept or rows, training.strong, config, given, held, seed=seed, steps=training.steps
        )
    return training.rates[arm.name]
