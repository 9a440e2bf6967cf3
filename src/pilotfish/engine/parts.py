"""One shard of one measurement as a parquet file, written and read back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pilotfish.encode import Encoded
from pilotfish.engine.batches import Measurement
from pilotfish.records import Example, Measured, Ragged
from pilotfish.signals import Column

# Columns of every part; whatever else stands there belongs to the signal.
_COMMON = ("id", "total", "count", "n_prompt", "n_response", "truncated", "reason")


def part(key: str, shard: int) -> str:
    """Where one shard of one measurement lies, without its ending."""
    return f"signals/{key}/part-{shard:05d}"


def write_part(
    path: Path, rows: Sequence[Example], encoded: Sequence[Encoded], found: Measurement
) -> None:
    """Write what was measured of a shard's rows, in their order."""
    columns: dict[str, Any] = {
        "id": pa.array([row.id for row in rows], pa.string()),
        **{name: _arrow(values) for name, values in found.columns.items()},
        "n_prompt": pa.array([row.n_prompt for row in encoded], pa.int64()),
        "n_response": pa.array([row.n_response for row in encoded], pa.int64()),
        "truncated": pa.array([row.truncated for row in encoded], pa.bool_()),
        "reason": pa.array(list(found.reason), pa.string()),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def measured(table: pa.Table) -> Measured:
    """The table of a part (or of several, one after the other) as selectors see it."""
    total = table["total"].to_numpy(zero_copy_only=False).astype(np.float64)
    count = table["count"].to_numpy(zero_copy_only=False).astype(np.int64)
    reason = np.array(table["reason"].to_pylist(), dtype=object)
    more = [name for name in table.column_names if name not in _COMMON]
    values = {name: _numpy(table[name].combine_chunks()) for name in more}
    return Measured(total, count, reason, values)


def _arrow(values: Column) -> pa.Array:
    if isinstance(values, Ragged):
        offsets = pa.array(values.offsets, pa.int64())
        return pa.LargeListArray.from_arrays(offsets, pa.array(values.flat))
    if values.ndim == 2 and not values.shape[1]:
        return pa.nulls(len(values))  # no row was read, so nobody knows how wide they are
    if values.ndim == 2:
        flat = pa.array(values.reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.array(values, from_pandas=True)


def _numpy(array: pa.Array) -> NDArray[Any] | Ragged:
    if pa.types.is_null(array.type):
        return np.zeros((len(array), 0), dtype=np.float32)
    if not (pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type)):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    flat = array.flatten().to_numpy(zero_copy_only=False)
    if pa.types.is_fixed_size_list(array.type):
        known = array.is_valid().to_numpy(zero_copy_only=False)
        wide = np.full((len(array), array.type.list_size), np.nan, dtype=flat.dtype)
        wide[known] = flat.reshape(-1, array.type.list_size)
        return wide
    sizes = array.value_lengths().to_numpy(zero_copy_only=False)
    return Ragged(flat, np.cumsum([0, *sizes]))
