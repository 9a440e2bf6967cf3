"""Reads measured shards back as what selectors may look at, matched to the pool by id."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pilotfish.engine.scorer import part
from pilotfish.errors import DamagedRun
from pilotfish.pool import Pool
from pilotfish.records import Measured, Need, Seen
from pilotfish.store import Store


def load_seen(
    pool: Pool, keys: Mapping[Need, str], store: Store, lengths_need: Need
) -> tuple[Seen, NDArray[np.bool_]]:
    """(Seen, truncated [n]) in pool order; token counts are those of `lengths_need`.

    Raises DamagedRun where a part is missing or changed, or its ids are not those of the pool.
    """
    ids = np.asarray(pool.columns("id")["id"], dtype=object)
    tables = {need: _aligned(_read(store, key, pool.shards), ids) for need, key in keys.items()}
    lengths = tables[lengths_need]
    seen = Seen(
        ids=ids,
        n_prompt_tokens=_ints(lengths, "n_prompt"),
        n_response_tokens=_ints(lengths, "n_response"),
        measured={need: _measured(table) for need, table in tables.items()},
    )
    return seen, np.asarray(lengths["truncated"].to_numpy(zero_copy_only=False), dtype=bool)


def _read(store: Store, key: str, shards: int) -> pa.Table:
    parts = []
    for shard in range(shards):
        store.require(f"{part(key, shard)}.json")
        parts.append(pq.read_table(store.path(f"{part(key, shard)}.parquet")))
    return pa.concat_tables(parts).combine_chunks()


def _aligned(table: pa.Table, ids: NDArray[np.object_]) -> pa.Table:
    """The table in the order of `ids`. Counts prove nothing: a lost and a doubled row cancel."""
    found = table["id"].to_pylist()
    if found == ids.tolist():
        return table
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
    return Measured(total, _ints(table, "count"), reason)


def _ints(table: pa.Table, name: str) -> Any:
    return table[name].to_numpy(zero_copy_only=False).astype(np.int64)
