"""Reads measured shards back as what selectors may look at, matched to the pool by id."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pilotfish.engine.parts import measured, part
from pilotfish.errors import DamagedRun
from pilotfish.pool import Pool
from pilotfish.records import Measured, Need, Seen, Texts
from pilotfish.store import Store


def seen_of(
    pool: Pool, keys: Mapping[Need, str], store: Store, lengths_need: Need, shard: int
) -> tuple[Seen, NDArray[np.bool_]]:
    """(Seen, truncated [n]) of one shard, in the order of the pool; the rest is not read.

    Token counts are those of `lengths_need`. Raises DamagedRun where a part is missing or changed,
    or its ids are not those of the shard.
    """
    ids = np.array(pool.table(shard, "id")["id"].to_pylist(), dtype=object)
    return _seen(
        ids, {need: _read(store, key, [shard]) for need, key in keys.items()}, lengths_need
    )


def load_seen(
    pool: Pool, keys: Mapping[Need, str], store: Store, lengths_need: Need
) -> tuple[Seen, NDArray[np.bool_]]:
    """(Seen, truncated [n]) of the whole pool at once; else like `seen_of`.

    For formulas that look at other rows too: memory grows with the pool.
    """
    ids = np.asarray(pool.columns("id")["id"], dtype=object)
    shards = range(pool.shards)
    return _seen(ids, {need: _read(store, key, shards) for need, key in keys.items()}, lengths_need)


def load_part(store: Store, key: str, shard: int) -> tuple[Texts, Measured]:
    """(ids [n], what was measured) of one shard of one need. DamagedRun where it is not intact."""
    table = _read(store, key, [shard])
    return np.array(table["id"].to_pylist(), dtype=object), measured(table)


def _seen(
    ids: Texts, found: Mapping[Need, pa.Table], lengths_need: Need
) -> tuple[Seen, NDArray[np.bool_]]:
    tables = {need: _aligned(table, ids) for need, table in found.items()}
    lengths = tables[lengths_need]
    seen = Seen(
        ids=ids,
        n_prompt_tokens=_ints(lengths, "n_prompt"),
        n_response_tokens=_ints(lengths, "n_response"),
        measured={need: measured(table) for need, table in tables.items()},
    )
    return seen, np.asarray(lengths["truncated"].to_numpy(zero_copy_only=False), dtype=bool)


def _read(store: Store, key: str, shards: Sequence[int]) -> pa.Table:
    parts = []
    for shard in shards:
        store.require(f"{part(key, shard)}.json")
        with pq.ParquetFile(store.path(f"{part(key, shard)}.parquet")) as file:
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
