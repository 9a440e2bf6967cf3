"""Predict a whole pool by shards, so that an interrupted command redoes only missing ones."""

import hashlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.flops import answering_flops, known
from pilotfish.labeling.files import read_part, write_part
from pilotfish.labeling.labellers import Labeller, Labellers
from pilotfish.labeling.predict import LabelPredictions, needs_states, predict_labels
from pilotfish.labeling.settings import LabelTask, token_lengths
from pilotfish.labeling.table import FILTERED, Labels
from pilotfish.records import Ints

if TYPE_CHECKING:
    from pilotfish.models import Loaded

LABEL_FORMAT = 1
"""Version of a model's raw answers and of the files that hold them; part of every label's key.

Raise it by one in a change after which the same rows and model give other labels, confidences or
states: answers made before are then never reused. tests/goldens/labels.json holds this version's.
"""

IN_TUNING = "asked_in_tuning"  # the reason of a row whose prompt the only labeller was tuned on


def predict_pool(task: LabelTask, labellers: Labellers) -> LabelPredictions:
    """Label every row of the pool by the model it is assigned to.

    Rows that the only labeller was trained on are not shown to it; they are set aside.
    """
    owner = labellers.assign(task.keys)
    found, places = [], []
    for number, labeller in enumerate(labellers.labellers):
        mine = np.flatnonzero(owner == number)
        if len(mine):
            found += _predict_by(task, labeller, mine, labellers)
            places.append(mine)
    in_tuning = np.flatnonzero(owner < 0)
    if len(in_tuning):
        found.append(_not_labelled(task, in_tuning, found[0] if found else None))
        places.append(in_tuning)
    order = np.argsort(np.concatenate(places), kind="stable")
    labels = Labels.joined([each.labels for each in found]).take(order)
    states = [each.states for each in found if each.states is not None]
    return LabelPredictions(labels, np.concatenate(states)[order] if states else None)


def _predict_by(
    task: LabelTask, labeller: Labeller, mine: Ints, labellers: Labellers
) -> list[LabelPredictions]:
    """Return one model's labels of the rows `mine`, a part per shard, read or made now."""
    from pilotfish.models import set_threads

    weak, store = labeller.load(task), task.context.store
    set_threads(weak.parameters)
    spec = _spec(task, labeller, weak, labellers)
    stage = "label" if labeller.fold < 0 else f"label fold {labeller.fold + 1}"
    start, predicted, found = time.monotonic(), 0, []
    for shard, (begin, end) in enumerate(task.pool.ranges):
        inside = mine[(mine >= begin) & (mine < end)]
        if not len(inside):
            continue
        rel = f"labels/raw/{spec['key']}/part-{shard:05d}"
        if store.manifest(f"{rel}.json") is None:
            rows = task.pool.shard(shard)
            examples = [rows[i - begin] for i in inside]
            predictions = predict_labels(examples, weak, task.config, fold=labeller.fold)
            with store.attempt(f"{rel}.json") as attempt:
                write_part(predictions, attempt.path(f"{rel}.parquet"))
                attempt.meta = {**spec, "shard": shard, "rows": len(inside)}
            predicted += len(inside)
        found.append(read_part(store.path(f"{rel}.parquet"), task.classes))
        task.context.progress.step(stage, end, len(task.pool))
    if predicted:
        _record_cost(task, weak, predicted, seconds=time.monotonic() - start)
    return found


def _spec(
    task: LabelTask, labeller: Labeller, weak: "Loaded", labellers: Labellers
) -> dict[str, Any]:
    """Return all that decides a shard's labels, and its hash: equal keys mean equal labels."""
    from pilotfish.engine.cache_keys import stage_key, stage_spec
    from pilotfish.records import Need

    config, folds = task.config, labellers.folds
    sampling = ("samples", "temperature", "seed") if config.kind == "consistency" else ()
    left_out = hashlib.sha256("".join(sorted(labeller.trained_on)).encode()).hexdigest()
    spec = {
        **stage_spec(
            task.pool.fingerprint, Need("nll"), weak, max_length=config.max_length, token_budget=0
        ),
        "need": config.kind,
        "classes": list(task.classes),
        "max_new_tokens": config.max_new_tokens,
        "states": needs_states(config),
        **{name: getattr(config, name) for name in sampling},
        "fold": [labeller.fold, folds, labellers.seed] if folds else None,
        "unasked": None if folds else left_out,
        "label_format": LABEL_FORMAT,
    }
    return {**spec, "key": stage_key(spec)}


def _record_cost(task: LabelTask, weak: "Loaded", rows: int, *, seconds: float) -> None:
    """Record the cost; FLOPs of free answers only, from a sample of the prompts."""
    config, flops = task.config, None
    if not config.classes and config.max_new_tokens:
        some = task.pool.take(np.arange(min(200, len(task.pool))))
        prompts = ["".join(turn.content for turn in row.prompt) or row.text or "" for row in some]
        lengths = token_lengths(prompts, weak)
        answers = rows * (config.samples if config.kind == "consistency" else 1)
        mean = sum(lengths) / max(len(lengths), 1)
        flops = answering_flops(weak, answers, mean, config.max_new_tokens)
    facts = known(flops=flops)
    task.context.run.cost("label", config.kind, seconds=seconds, rows=rows, **facts)


def _not_labelled(task: LabelTask, places: Ints, like: LabelPredictions | None) -> LabelPredictions:
    """Return rows of the pool without a label, in the shape of other predictions."""
    n, kind = len(places), task.config.kind
    width = None if like is None or like.states is None else like.states.shape[1]
    labels = Labels(
        ids=task.pool.columns("id")["id"][places],
        label=np.full(n, "", dtype=object),
        status=np.full(n, FILTERED, dtype=object),
        reason=np.full(n, IN_TUNING, dtype=object),
        confidence=np.full(n, np.nan),
        round=np.zeros(n, dtype=np.int64),
        fold=np.full(n, -1, dtype=np.int64),
        by=np.full(n, "", dtype=object),
        classes=task.classes,
        probs=np.full((n, len(task.classes)), np.nan) if kind == "soft" else None,
        consistency=np.full(n, np.nan) if kind == "consistency" else None,
    )
    return LabelPredictions(labels, None if width is None else np.full((n, width), np.nan))
