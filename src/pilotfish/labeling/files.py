"""What a labelling leaves on disk: a table of all rows, and the labelled ones as they came."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.data import Pool
from pilotfish.data.detect import answered_record
from pilotfish.data.formats import FORMATS
from pilotfish.labeling.filtering import agrees
from pilotfish.labeling.settings import Task
from pilotfish.labeling.shards import labels_in, table_columns
from pilotfish.labeling.table import OK, Labels
from pilotfish.store import Run


def write_labels(task: Task, name: str, labels: Labels, meta: Mapping[str, Any]) -> None:
    """Commit labels/<name>.parquet, .jsonl and, last, .json."""
    with task.run.store.attempt(f"labels/{name}.json") as attempt:
        columns = table_columns(labels)
        origin = task.pool.columns("source", "row")
        columns = {
            "id": columns.pop("id"),
            "source": pa.array(origin["source"], pa.large_string()),
            "row": pa.array(origin["row"], pa.int64()),
            **columns,
        }
        pq.write_table(
            pa.table(columns), attempt.path(f"labels/{name}.parquet"), compression="zstd"
        )
        _write_lines(task, labels, attempt.path(f"labels/{name}.jsonl"))
        attempt.meta = dict(meta)


def _write_lines(task: Task, labels: Labels, target: Path) -> None:
    """The rows with a label that stands, in pool order, the label in the place of their answer."""
    chosen = FORMATS[task.pool.schema]
    mapping = task.run.section("data").get("mapping") or {}
    with target.open("wb") as out:
        for start, stop in task.pool.ranges:
            places = start + np.flatnonzero(labels.ok[start:stop])
            for place, raw in zip(places.tolist(), task.pool.raw(places), strict=True):
                record = answered_record(json.loads(raw), mapping, chosen, str(labels.label[place]))
                line = json.dumps({**record, **_provenance(labels, place)}, ensure_ascii=False)
                out.write(f"{line}\n".encode("utf-8", "backslashreplace"))


def _provenance(labels: Labels, place: int) -> dict[str, Any]:
    """Who labelled a row, how surely, and the probabilities of soft labels."""
    sure = float(labels.confidence[place])
    found = {
        "label_by": str(labels.by[place]),
        "label_confidence": sure if math.isfinite(sure) else None,
        "label_status": str(labels.status[place]),
        "label_round": int(labels.round[place]),
    }
    if labels.probs is None:
        return found
    shares = zip(labels.classes, labels.probs[place].tolist(), strict=True)
    return {**found, "label_probs": dict(shares)}


def read_labels(run: Run, name: str) -> Labels:
    """The labels of a run by name, all rows in pool order; DamagedRun where they are not intact."""
    facts = run.store.require(f"labels/{name}.json")["facts"]
    table = pq.read_table(run.store.path(f"labels/{name}.parquet"), partitioning=None)
    return labels_in(table.drop_columns(["source", "row"]), facts["classes"])


def own_agreement(pool: Pool, labels: Labels) -> tuple[float | None, int]:
    """(share of standing labels that are the row's own answer, of how many rows that have one)."""
    same, rows = 0, 0
    for place, row in enumerate(pool.examples()):
        if labels.status[place] == OK and row.response.strip() and (row.turns or row.label):
            rows += 1
            same += agrees(str(labels.label[place]), row)
    return (same / rows if rows else None), rows
