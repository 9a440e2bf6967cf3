"""One shard of one measurement as a parquet file: write it, and read shards back as features."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pilotfish.data import Pool
from pilotfish.engine.batches import Measurement
from pilotfish.engine.signals.tokens import Column
from pilotfish.errors import DamagedRun
from pilotfish.records import Example, Ints, Measured, Need, Ragged, RowFeatures, Texts
from pilotfish.store import Store
from pilotfish.tokenization import Encoded

# Columns of every part; the others belong to the signal.
_COMMON = ("id", "total", "count", "n_prompt", "n_response", "truncated", "reason")


def shard_path(key: str, shard: int) -> str:
    """Return the path of one shard of one measurement, without its suffix."""
    return f"signals/{key}/part-{shard:05d}"


def write_shard(
    path: Path, rows: Sequence[Example], encoded: Sequence[Encoded], found: Measurement
) -> None:
    """Write one parquet file.

    Args:
        path: The file.
        rows: The rows of the shard.
        encoded: The same rows as token ids.
        found: What was measured of them, in their order.
    """
    columns: dict[str, Any] = {
        "id": pa.array([row.id for row in rows], pa.string()),
        **{name: _to_arrow(values) for name, values in found.columns.items()},
        "n_prompt": pa.array([row.n_prompt for row in encoded], pa.int64()),
        "n_response": pa.array([row.n_response for row in encoded], pa.int64()),
        "truncated": pa.array([row.truncated for row in encoded], pa.bool_()),
        "reason": pa.array(list(found.reason), pa.string()),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def features_of_shard(
    pool: Pool, keys: Mapping[Need, str], store: Store, lengths_need: Need, shard: int
) -> tuple[RowFeatures, NDArray[np.bool_]]:
    """Read what was measured of one shard.

    Args:
        pool: The rows.
        keys: The key of each need.
        store: The run's files.
        lengths_need: The need of `keys` whose token counts are returned.
        shard: Its number.

    Returns:
        Features of the shard's rows in the order of the pool, and [n] which rows were truncated.

    Raises:
        DamagedRun: A part is missing or changed, or its ids are not those of the shard.
    """
    ids = np.array(pool.table(shard, "id")["id"].to_pylist(), dtype=object)
    return _features(ids, keys, store, lengths_need, [shard])


def load_features(
    pool: Pool, keys: Mapping[Need, str], store: Store, lengths_need: Need
) -> tuple[RowFeatures, NDArray[np.bool_]]:
    """Read what was measured of the whole pool at once; else as `features_of_shard`.

    For formulas that look at other rows too: memory grows with the pool.
    """
    ids = np.asarray(pool.columns("id")["id"], dtype=object)
    return _features(ids, keys, store, lengths_need, range(pool.shards))


def load_shard(store: Store, key: str, shard: int) -> tuple[Texts, Measured]:
    """Return ids [n] and measurement of one shard of one need.

    Raises:
        DamagedRun: The part is missing or changed.
    """
    table = _read(store, key, [shard])
    return np.array(table["id"].to_pylist(), dtype=object), _measured(table)


def _features(
    ids: Texts,
    keys: Mapping[Need, str],
    store: Store,
    lengths_need: Need,
    shards: Sequence[int],
) -> tuple[RowFeatures, NDArray[np.bool_]]:
    tables = {need: _aligned(_read(store, key, shards), ids) for need, key in keys.items()}
    lengths = tables[lengths_need]
    features = RowFeatures(
        ids=ids,
        n_prompt_tokens=_ints(lengths, "n_prompt"),
        n_response_tokens=_ints(lengths, "n_response"),
        measured={need: _measured(table) for need, table in tables.items()},
    )
    return features, np.asarray(lengths["truncated"].to_numpy(zero_copy_only=False), dtype=bool)


def _read(store: Store, key: str, shards: Sequence[int]) -> pa.Table:
    parts = []
    for shard in shards:
        store.require(f"{shard_path(key, shard)}.json")
        with pq.ParquetFile(store.path(f"{shard_path(key, shard)}.parquet")) as file:
            parts.append(file.read(use_threads=False))
    return pa.concat_tables(parts, promote_options="default").combine_chunks()


def _aligned(table: pa.Table, ids: Texts) -> pa.Table:
    """Return the table in the order of `ids`.

    Ids are compared, not counted: a lost row and a doubled one would cancel out.
    """
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


def _measured(table: pa.Table) -> Measured:
    total = table["total"].to_numpy(zero_copy_only=False).astype(np.float64)
    reason = np.array(table["reason"].to_pylist(), dtype=object)
    more = [name for name in table.column_names if name not in _COMMON]
    values = {name: _from_arrow(table[name].combine_chunks()) for name in more}
    return Measured(total, _ints(table, "count"), reason, values)


def _ints(table: pa.Table, name: str) -> Ints:
    column: Ints = table[name].to_numpy(zero_copy_only=False).astype(np.int64)
    return column


def _to_arrow(values: Column) -> pa.Array:
    if isinstance(values, Ragged):
        offsets = pa.array(values.offsets, pa.int64())
        return pa.LargeListArray.from_arrays(offsets, pa.array(values.flat))
    if values.ndim == 2 and not values.shape[1]:
        return pa.nulls(len(values))  # no row was read, so the width is unknown
    if values.ndim == 2:
        flat = pa.array(values.reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.array(values, from_pandas=True)


def _from_arrow(array: pa.Array) -> NDArray[Any] | Ragged:
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
