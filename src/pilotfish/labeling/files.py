"""Labels on disk: parts of a model's raw answers, and the files that a labelling leaves."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.data.detect import answered_record
from pilotfish.data.formats import FORMATS
from pilotfish.labeling.predict import LabelPredictions
from pilotfish.labeling.settings import LabelTask
from pilotfish.labeling.table import Labels
from pilotfish.records import Floats
from pilotfish.store import Run


def write_part(predictions: LabelPredictions, target: Path) -> None:
    """Write a model's answers to some rows."""
    columns = _to_arrow(predictions.labels)
    if predictions.states is not None:
        columns["states"] = _lists(predictions.states, pa.float32())  # as precise as measured
    pq.write_table(pa.table(columns), target, compression="zstd")


def read_part(path: Path, classes: Sequence[str]) -> LabelPredictions:
    """Read what `write_part` wrote."""
    table = pq.read_table(path, partitioning=None)
    states = _to_array(table["states"]) if "states" in table.column_names else None
    return LabelPredictions(_from_arrow(table, classes), states)


def write_labels(task: LabelTask, name: str, labels: Labels, meta: Mapping[str, Any]) -> None:
    """Commit labels/<name>.parquet, .jsonl and, last, .json.

    The table holds all rows; the jsonl holds the rows whose label is kept, in pool order, as they
    came, with the label in the place of their answer.

    Args:
        task: The pool and its run.
        name: Name of the labels.
        labels: The labels of the pool [n].
        meta: What the manifest holds.
    """
    with task.context.store.attempt(f"labels/{name}.json") as attempt:
        columns, origin = _to_arrow(labels), task.pool.columns("source", "row")
        columns = {
            "id": columns.pop("id"),
            "source": pa.array(origin["source"], pa.large_string()),
            "row": pa.array(origin["row"], pa.int64()),
            **columns,
        }
        table = pa.table(columns)
        pq.write_table(table, attempt.path(f"labels/{name}.parquet"), compression="zstd")
        schema = FORMATS[task.pool.schema]
        mapping = task.context.run.section("data").get("mapping") or {}
        with attempt.path(f"labels/{name}.jsonl").open("wb") as out:
            for start, stop in task.pool.ranges:
                places = start + np.flatnonzero(labels.ok[start:stop])
                for place, raw in zip(places.tolist(), task.pool.raw(places), strict=True):
                    answer = str(labels.label[place])
                    record = answered_record(json.loads(raw), mapping, schema, answer)
                    record = {**record, **_provenance(labels, place)}
                    line = json.dumps(record, ensure_ascii=False)
                    out.write(f"{line}\n".encode("utf-8", "backslashreplace"))
        attempt.meta = dict(meta)


def _provenance(labels: Labels, place: int) -> dict[str, Any]:
    """Return the model, the confidence and, of soft labels, the probabilities of one row."""
    confidence = float(labels.confidence[place])
    found = {
        "label_by": str(labels.by[place]),
        "label_confidence": confidence if math.isfinite(confidence) else None,
        "label_status": str(labels.status[place]),
        "label_round": int(labels.round[place]),
    }
    if labels.probs is None:
        return found
    shares = zip(labels.classes, labels.probs[place].tolist(), strict=True)
    return {**found, "label_probs": dict(shares)}


def read_labels(run: Run, name: str) -> Labels:
    """Read the labels of a run by name, all rows in pool order.

    Raises:
        DamagedRun: The files are missing or damaged.
    """
    facts = run.store.require(f"labels/{name}.json")["facts"]
    table = pq.read_table(run.store.path(f"labels/{name}.parquet"), partitioning=None)
    return _from_arrow(table.drop_columns(["source", "row"]), facts["classes"])


def _to_arrow(labels: Labels) -> dict[str, pa.Array]:
    """Return the columns of labels; null for no reason and for an unknown number."""
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
    """Return numbers [n, d] as a column of lists of d."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), kind), values.shape[1])


def _from_arrow(table: pa.Table, classes: Sequence[str]) -> Labels:
    names = {"id": "ids"}
    columns = {names.get(name, name): _to_array(table[name]) for name in table.column_names}
    return Labels.from_columns(columns, classes=classes)


def _to_array(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
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
