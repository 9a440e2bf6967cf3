"""A canonical shard: examples <-> one zstd parquet file, the same bytes for the same rows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.records import Example, Texts, Turn

_TEXT = pa.large_string()  # a shard may hold more than 2 GiB of one column
SCHEMA = pa.schema(
    [
        ("id", _TEXT),
        ("source", _TEXT),
        ("row", pa.int64()),
        ("turns", pa.list_(pa.struct([("role", pa.string()), ("content", _TEXT)]))),
        ("text", _TEXT),
        ("label", _TEXT),
        ("meta", _TEXT),
        ("raw", _TEXT),
        ("digest", pa.string()),
    ]
)


def write_shard(path: Path, examples: Sequence[Example]) -> None:
    """Write one shard; no time, no host, no library metadata in it."""
    table = pa.Table.from_pylist([_row(example) for example in examples], schema=SCHEMA)
    pq.write_table(table, path, compression="zstd", write_statistics=False)


def read_rows_of(path: Path, rows: Sequence[int] | None = None) -> list[Example]:
    """The examples of a shard, all or those at some positions, in the order given."""
    table = pq.read_table(path, partitioning=None)
    if rows is not None:
        table = table.take(pa.array(rows, pa.int64()))
    return [_example(row) for row in table.to_pylist()]


def read_table(path: Path, names: Sequence[str]) -> pa.Table:
    """Some columns of a shard; no thread is started for what is read in a millisecond."""
    with pq.ParquetFile(path) as file:
        return file.read(columns=list(names), use_threads=False)


def read_column(path: Path, name: str) -> np.ndarray[Any, Any]:
    """One column of a shard, [n]: int64 for `row`, else text objects."""
    column = read_table(path, [name]).column(name)
    if name == "row":
        return np.asarray(column.to_numpy(), dtype=np.int64)
    return texts(column.to_pylist())


def texts(values: Sequence[Any]) -> Texts:
    """Text objects in an array, [n]."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _row(example: Example) -> dict[str, Any]:
    return {
        "id": example.id,
        "source": example.source,
        "row": example.row,
        "turns": [{"role": turn.role, "content": turn.content} for turn in example.turns],
        "text": example.text,
        "label": example.label,
        "meta": json.dumps(example.meta, ensure_ascii=False, separators=(",", ":")),
        "raw": example.raw,
        "digest": example.digest,
    }


def _example(row: dict[str, Any]) -> Example:
    return Example(
        id=row["id"],
        source=row["source"],
        row=row["row"],
        turns=tuple(Turn(turn["role"], turn["content"]) for turn in row["turns"]),
        text=row["text"],
        label=row["label"],
        meta=json.loads(row["meta"]),
        raw=row["raw"],
    )
