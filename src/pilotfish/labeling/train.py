"""Models made on the way to labels, each in a folder whose name says what it was made from."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.config import TrainConfig, WeakTrainConfig
from pilotfish.data import overlap_key
from pilotfish.data.run_pool import fingerprint
from pilotfish.errors import UsageError
from pilotfish.extras import need_torch
from pilotfish.flops import training_cost
from pilotfish.labeling.settings import Task
from pilotfish.records import Example, Floats, Ints

HEAD_EPOCHS = 10  # over the trusted rows, which are few; a language model gets as many at most

Make = Callable[[Path], dict[str, Any]]


def tune_labeller(task: Task, base: str, rows: Sequence[Example]) -> str:
    """The folder of the weak model tuned on rows, made now or found in the run."""
    need_torch("tuning the weak model", extra="train")
    config = task.models.tune
    made_from = _made_from(task, base, {"trusted": fingerprint(rows)}, config)
    if task.models.heads(base):
        known = {name: getattr(config, name) for name in WeakTrainConfig.model_fields}
        settings = TrainConfig(**known, num_train_epochs=HEAD_EPOCHS)
        return _made(task, "tune", rows, {**made_from, "classes": list(_classes(task))},
                     make=_head(task, base, rows, settings, None))  # fmt: skip
    scored = task.run.store.manifest("weak/manifest.json")  # a score may have tuned the very same
    if scored and scored.get("made_from") == made_from:
        return "weak"

    def make(folder: Path) -> dict[str, Any]:
        from pilotfish.training.tune import tune

        return tune(rows, base, seed=task.how.seed, folder=folder, config=config)

    return _made(task, "tune", rows, made_from, make=make)


def train_student(task: Task, base: str, rows: Sequence[Example], probs: Floats | None) -> str:
    """The folder of a later model, trained on labelled rows, made now or found in the run.

    probs [n, k]: soft labels, which a classification head learns in the place of hard ones.
    """
    need_torch("training on weak labels", extra="train")
    config, head = task.models.train, task.models.heads(base)
    soft = probs if head else None
    if soft is not None and config.loss == "lm":
        config = config.changed({"loss": "soft_ce"})
    learnt = {"labelled": fingerprint(rows), "soft": _digest(soft)}
    made_from = _made_from(task, base, learnt, config)
    if head:
        return _made(task, "train", rows, {**made_from, "classes": list(_classes(task))},
                     make=_head(task, base, rows, config, soft))  # fmt: skip

    def make(folder: Path) -> dict[str, Any]:
        from pilotfish.training.trainer import train

        return train(rows, base, config, seed=task.how.seed, folder=folder)

    return _made(task, "train", rows, made_from, make=make)


def _made_from(
    task: Task, base: str, learnt: Mapping[str, Any], config: WeakTrainConfig
) -> dict[str, Any]:
    from pilotfish.models import identify

    return {
        "model": identify(base),
        **learnt,
        "seed": task.how.seed,
        "config": config.model_dump(mode="json"),
    }


def _head(
    task: Task, base: str, rows: Sequence[Example], config: TrainConfig, soft: Floats | None
) -> Make:
    """How a classification head is trained, on the rows' labels or on soft ones."""
    classes = _classes(task)
    place = {name: at for at, name in enumerate(classes)}
    unknown = sorted({row.response for row in rows} - {*classes})
    if unknown:
        raise UsageError(
            f"a row to learn from is labelled {unknown[0]}, which is none of the classes "
            f"{', '.join(classes)}",
            hint="name all of them with --classes",
        )
    hard: Ints = np.array([place[row.response] for row in rows], dtype=np.int64)

    def make(folder: Path) -> dict[str, Any]:
        from pilotfish.training.classify import train_classifier

        return train_classifier(
            rows, base, config, classes=classes, targets=hard if soft is None else soft,
            seed=task.how.seed, folder=folder,
        )  # fmt: skip

    return make


def _classes(task: Task) -> tuple[str, ...]:
    return task.how.classes or ()


def _digest(probs: Floats | None) -> str | None:
    return None if probs is None else hashlib.sha256(probs.tobytes()).hexdigest()


def _made(
    task: Task,
    verb: str,
    rows: Sequence[Example],
    made_from: Mapping[str, Any],
    *,
    make: Make,
) -> str:
    """Commit a model under a name that says what it was made from; rows.jsonl names its rows."""
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    folder, store = f"labels/models/{digest}", task.run.store
    if store.manifest(f"{folder}/manifest.json") is not None:
        return folder
    task.progress.note(f"{verb} on {len(rows):,} rows")
    start = time.monotonic()
    with store.attempt(f"{folder}/manifest.json") as attempt:
        temp = attempt.folder(folder)
        facts = make(temp)
        lines = (json.dumps({"id": row.id, "asks": overlap_key(row)}) for row in rows)
        (temp / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        attempt.meta = {"made_from": dict(made_from), **facts}
    # stage `label`, for what was tuned here is no part of what a selection cost
    task.run.cost(
        "label", f"{verb} {digest}", seconds=time.monotonic() - start, rows=len(rows),
        **training_cost(facts),
    )  # fmt: skip
    return folder
