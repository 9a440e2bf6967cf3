"""Labels of a whole pool, shard by shard, so that a killed command redoes only what is missing."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.flops import answering_flops, known
from pilotfish.labeling.answer import LabelPredictions, predict_labels
from pilotfish.labeling.cross_fit import LEARNT, Labeller, Labellers
from pilotfish.labeling.settings import Task, token_lengths
from pilotfish.labeling.table import FILTERED, Labels
from pilotfish.records import Floats, Ints

if TYPE_CHECKING:
    from pilotfish.models import Loaded

LABEL_FORMAT = 1
"""Version of a model's raw answers and of the files that hold them; part of every label's key.

Raise it by one in a change after which the same rows and model give other labels, confidences or
states: answers made before are then never reused. tests/goldens/labels.json holds this version's.
"""


def predict_pool(task: Task, crew: Labellers) -> LabelPredictions:
    """What the crew says to every row; rows that all of it learnt are set aside unasked."""
    owner = crew.owner(task.keys)
    found, places = [], []
    for number, labeller in enumerate(crew.labellers):
        mine = np.flatnonzero(owner == number)
        if len(mine):
            found += _by_one(task, labeller, mine, crew)
            places.append(mine)
    learnt = np.flatnonzero(owner < 0)
    if len(learnt):
        found.append(_unasked(task, learnt, found[0] if found else None))
        places.append(learnt)
    order = np.argsort(np.concatenate(places), kind="stable")
    labels = Labels.joined([each.labels for each in found]).take(order)
    states = [each.states for each in found if each.states is not None]
    return LabelPredictions(labels, np.concatenate(states)[order] if states else None)


def _by_one(task: Task, labeller: Labeller, mine: Ints, crew: Labellers) -> list[LabelPredictions]:
    """The labels that one model gives to the rows `mine`, in their order."""
    from pilotfish.models import set_threads

    weak = labeller.load(task)
    set_threads(weak.parameters)
    spec = _spec(task, labeller, weak, crew)
    folder = f"labels/raw/{spec['key']}"
    start, asked, found = time.monotonic(), 0, []
    for shard, (begin, end) in enumerate(task.pool.ranges):
        inside = mine[(mine >= begin) & (mine < end)]
        if not len(inside):
            continue
        rel = f"{folder}/part-{shard:05d}"
        if task.run.store.manifest(f"{rel}.json") is None:
            rows = task.pool.shard(shard)
            looked = predict_labels(
                [rows[i - begin] for i in inside], weak, task.how, fold=labeller.fold
            )
            with task.run.store.attempt(f"{rel}.json") as attempt:
                pq.write_table(_table(looked), attempt.path(f"{rel}.parquet"), compression="zstd")
                attempt.meta = {**spec, "shard": shard, "rows": len(inside)}
            asked += len(inside)
        found.append(_read(task.run.store.path(f"{rel}.parquet"), task.how.classes or ()))
        task.progress.step(_stage(labeller), end, len(task.pool))
    if asked:
        _price(task, weak, asked, seconds=time.monotonic() - start)
    return found


def _stage(labeller: Labeller) -> str:
    return "label" if labeller.fold < 0 else f"label fold {labeller.fold + 1}"


def _spec(task: Task, labeller: Labeller, weak: "Loaded", crew: Labellers) -> dict[str, Any]:
    """All that decides a shard's labels, with its hash: equal key, equal labels."""
    from pilotfish.engine.cache_keys import stage_key, stage_spec
    from pilotfish.records import Need

    how = task.how
    drawn = ("samples", "temperature", "seed") if how.kind == "consistency" else ()
    unasked = hashlib.sha256("".join(sorted(labeller.learnt)).encode()).hexdigest()
    spec = {
        **stage_spec(
            task.pool.fingerprint, Need("nll"), weak, max_length=how.max_length, token_budget=0
        ),
        "need": how.kind,
        "classes": list(how.classes or ()),
        "max_new_tokens": how.max_new_tokens,
        "states": how.wants_states,
        **{name: getattr(how, name) for name in drawn},
        "fold": [labeller.fold, crew.folds, crew.seed] if crew.folds else None,
        "unasked": None if crew.folds else unasked,
        "label_format": LABEL_FORMAT,
    }
    return {**spec, "key": stage_key(spec)}


def _price(task: Task, weak: "Loaded", rows: int, *, seconds: float) -> None:
    """Record what asking cost; FLOPs of free answers only, from a sample of the prompts."""
    how, flops = task.how, None
    if not how.classes and how.max_new_tokens:
        some = task.pool.take(np.arange(min(200, len(task.pool))))
        asked = token_lengths(
            ["".join(turn.content for turn in row.prompt) or row.text or "" for row in some], weak
        )
        answers = rows * (how.samples if how.kind == "consistency" else 1)
        mean = sum(asked) / max(len(asked), 1)
        flops = answering_flops(weak, answers, mean, how.max_new_tokens)
    task.run.cost("label", how.kind, seconds=seconds, rows=rows, **known(flops=flops))


def _unasked(task: Task, places: Ints, like: LabelPredictions | None) -> LabelPredictions:
    """Rows that nobody may label."""
    n, classes = len(places), task.how.classes or ()
    ids = task.pool.columns("id")["id"][places]
    width = None if like is None or like.states is None else like.states.shape[1]
    labels = Labels(
        ids=ids,
        label=np.full(n, "", dtype=object),
        status=np.full(n, FILTERED, dtype=object),
        reason=np.full(n, LEARNT, dtype=object),
        confidence=np.full(n, np.nan),
        round=np.zeros(n, dtype=np.int64),
        fold=np.full(n, -1, dtype=np.int64),
        by=np.full(n, "", dtype=object),
        classes=classes,
        probs=np.full((n, len(classes)), np.nan) if task.how.kind == "soft" else None,
        consistency=np.full(n, np.nan) if task.how.kind == "consistency" else None,
    )
    return LabelPredictions(labels, None if width is None else np.full((n, width), np.nan))


def _table(looked: LabelPredictions) -> pa.Table:
    columns = table_columns(looked.labels)
    if looked.states is not None:
        columns["states"] = _lists(looked.states, pa.float32())  # as precise as they were measured
    return pa.table(columns)


def table_columns(labels: Labels) -> dict[str, pa.Array]:
    """Arrow columns of labels; null for no reason and for what is not known."""
    found: dict[str, pa.Array] = {}
    for name, values in labels.to_columns().items():
        if values.ndim == 2:
            found[name] = _lists(values, pa.float64())
        elif values.dtype == object:
            empty = values == "" if name in ("reason", "by") else None
            found[name] = pa.array(values, pa.large_string(), mask=empty)
        elif values.dtype.kind == "f":
            found[name] = pa.array(values, pa.float64(), mask=np.isnan(values))
        else:
            found[name] = pa.array(values, pa.int64())
    return {"id": found.pop("ids"), **found}


def _lists(values: Floats, kind: pa.DataType) -> pa.Array:
    """[n, d] numbers as a column of lists of d."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), kind), values.shape[1])


def labels_in(table: pa.Table, classes: Sequence[str]) -> Labels:
    """The labels of a table made of `table_columns`."""
    names = {"id": "ids"}
    columns = {names.get(name, name): _array(table[name]) for name in table.column_names}
    return Labels.from_columns(columns, classes=classes)


def _read(path: Path, classes: Sequence[str]) -> LabelPredictions:
    table = pq.read_table(path, partitioning=None)
    states = _array(table["states"]) if "states" in table.column_names else None
    return LabelPredictions(labels_in(table, classes), states)


def _array(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    if pa.types.is_fixed_size_list(column.type):
        pieces = [np.asarray(chunk.flatten().to_numpy()) for chunk in column.chunks]
        return np.concatenate(pieces).astype(np.float64).reshape(len(column), -1)
    if pa.types.is_integer(column.type):
        return np.asarray(column.to_numpy(), dtype=np.int64)
    if pa.types.is_floating(column.type):
        return np.asarray(column.to_numpy(), dtype=np.float64)
    found = np.empty(len(column), dtype=object)
    found[:] = [value or "" for value in column.to_pylist()]
    return found
