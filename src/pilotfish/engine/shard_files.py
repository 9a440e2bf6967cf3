"""One shard of one measurement as a parquet file, written and read back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pilotfish.data import Pool
from pilotfish.engine.batches import Measurement
from pilotfish.engine.signals import Column
from pilotfish.errors import DamagedRun
from pilotfish.records import Example, Measured, Need, Ragged, RowFeatures, Texts
from pilotfish.store import Store
from pilotfish.tokenization import Encoded

# Columns of every part; whatever else stands there belongs to the signal.
_COMMON = ("id", "total", "count", "n_prompt", "n_response", "truncated", "reason")


def shard_path(key: str, shard: int) -> str:
    """Where one shard of one measurement lies, without its ending."""
    return f"signals/{key}/part-{shard:05d}"


def write_shard(
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


def features_of_shard(
    pool: Pool, keys: Mapping[Need, str], store: Store, lengths_need: Need, shard: int
) -> tuple[RowFeatures, NDArray[np.bool_]]:
    """(Seen, truncated [n]) of one shard, in the order of the pool; the rest is not read.

    Token counts are those of `lengths_need`. Raises DamagedRun where a part is missing or changed,
    or its ids are not those of the shard.
    """
    ids = np.array(pool.table(shard, "id")["id"].to_pylist(), dtype=object)
    return _seen(
        ids, {need: _read(store, key, [shard]) for need, key in keys.items()}, lengths_need
    )


def load_features(
    pool: Pool, keys: Mapping[Need, str], store: Store, lengths_need: Need
) -> tuple[RowFeatures, NDArray[np.bool_]]:
    """(Seen, truncated [n]) of the whole pool at once; else like `seen_of`.

    For formulas that look at other rows too: memory grows with the pool.
    """
    ids = np.asarray(pool.columns("id")["id"], dtype=object)
    shards = range(pool.shards)
    return _seen(ids, {need: _read(store, key, shards) for need, key in keys.items()}, lengths_need)


def load_shard(store: Store, key: str, shard: int) -> tuple[Texts, Measured]:
    """(ids [n], what was measured) of one shard of one need. DamagedRun where it is not intact."""
    table = _read(store, key, [shard])
    return np.array(table["id"].to_pylist(), dtype=object), measured(table)


def _seen(
    ids: Texts, found: Mapping[Need, pa.Table], lengths_need: Need
) -> tuple[RowFeatures, NDArray[np.bool_]]:
    tables = {need: _aligned(table, ids) for need, table in found.items()}
    lengths = tables[lengths_need]
    seen = RowFeatures(
        ids=ids,
        n_prompt_tokens=_ints(lengths, "n_prompt"),
        n_response_tokens=_ints(lengths, "n_response"),
        measured={need: measured(table) for need, table in tables.items()},
    )
    return seen, np.asarray(lengths["truncated"].to_numpy(zero_copy_only=False), dtype=bool)


def _read(store: Store, key: str, shards: Sequence[int]) -> pa.Table:
    parts = []
    for shard in shards:
        store.require(f"{shard_path(key, shard)}.json")
        with pq.ParquetFile(store.path(f"{shard_path(key, shard)}.parquet")) as file:
            parts.append(file.read(use_threads=False))
    return pa.concat_tables(parts, promote_options="default").combine_chunks()


def _aligned(table: pa.Table, ids: Texts) -> pa.Table:
    """The table in the order of `ids`. Counts prove nothing: a lost and a doubled row cancel."""
    if table["id"].equals(pa.chunked_array([pa.array(ids, pa.string())])):
        return table
    found = table["id"].to_pylist()
    place = {name: index for index, name in enumerate(found)}
    if len(place) != len(found) or place.keys() != set(ids.tolist()):
        strange = sorted(place.keys() ^ set(ids.tolist()))
        raise DamagedRun(
            f"measured rows are not the rows of the pool; the first that differs is "
            f"{strange[0] if strange else 'measured twice'}",
            hint="delete the folder signals/ of the run and score again",
        )
    return table.take([place[name] for name in ids.tolist()])


def _ints(table: pa.Table, name: str) -> Any:
    return table[name].to_numpy(zero_copy_only=False).astype(np.int64)
