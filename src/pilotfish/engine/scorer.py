"""Shard after shard of a pool through a model, each committed with its manifest or redone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.encode import Encoded, clamp_max_length, encode_scoring
from pilotfish.engine.batches import Measurement, Tick, default_budget, measure_rows
from pilotfish.engine.forward import Forward
from pilotfish.engine.keys import stage_key, stage_spec
from pilotfish.models import Loaded
from pilotfish.pool import Pool
from pilotfish.records import Example, Need
from pilotfish.store import Store

# Token counts only: no forward pass. For selectors that need no signal.
LENGTHS = Need("length")

Progress = Callable[[int, int], None]


class Receipt(NamedTuple):
    """What one call did."""

    shard: int
    rows: int
    measured: tuple[str, ...]  # keys measured now; the others were intact


class ShardScorer:
    """Called with a shard number: reads, encodes, measures each need, commits. Knows no executor.

    Every need is measured on its own, so its bits never depend on which others were asked for.
    """

    def __init__(
        self,
        pool: Pool,
        needs: Sequence[Need],
        loaded: Loaded,
        store: Store,
        *,
        max_length: int,
        token_budget: int | None = None,
    ) -> None:
        self._pool, self._loaded, self._store = pool, loaded, store
        self._forward = Forward(loaded)
        self._max_length = clamp_max_length(max_length, loaded.window)
        self._budget = token_budget or default_budget(loaded.device)
        self._specs = {
            need: stage_spec(
                pool.fingerprint,
                need,
                loaded,
                max_length=self._max_length,
                token_budget=self._budget,
            )
            for need in needs
        }
        self.keys: dict[Need, str] = {need: stage_key(spec) for need, spec in self._specs.items()}

    def __call__(self, shard: int, tick: Tick | None = None) -> Receipt:
        """Measure what is missing of one shard; intact parts are left alone."""
        missing = [need for need, key in self.keys.items() if not self._done(key, shard)]
        rows = self._pool.shard(shard) if missing else []
        for need in missing:
            encoded = encode_scoring(rows, need, self._loaded.tokenizer, self._max_length)
            self._commit(need, shard, rows, encoded, self._measure(need, encoded, tick))
        return Receipt(shard, len(rows), tuple(self.keys[need] for need in missing))

    def _done(self, key: str, shard: int) -> bool:
        return self._store.manifest(f"{part(key, shard)}.json") is not None

    def _measure(self, need: Need, encoded: Sequence[Encoded], tick: Tick | None) -> Measurement:
        if need == LENGTHS:
            return _lengths(encoded, self._budget)
        return measure_rows(
            encoded,
            self._forward,
            signal=need.signal,
            token_budget=self._budget,
            tick=tick,
        )

    def _commit(
        self,
        need: Need,
        shard: int,
        rows: Sequence[Example],
        encoded: Sequence[Encoded],
        found: Measurement,
    ) -> None:
        name = part(self.keys[need], shard)
        with self._store.attempt(f"{name}.json") as attempt:
            _write(attempt.path(f"{name}.parquet"), rows, encoded, found)
            attempt.meta = {
                "rows": len(rows),
                "spec": self._specs[need],
                "token_budget": found.token_budget,
                "reasons": _counts(found.reason),
            }


def measure(
    pool: Pool,
    needs: Sequence[Need],
    loaded: Loaded,
    *,
    max_length: int,
    store: Store,
    token_budget: int | None = None,
    on_progress: Progress | None = None,
    on_receipt: Callable[[Receipt], None] | None = None,
) -> dict[Need, str]:
    """Fill signals/<key>/ for every need and say each need's key; finished shards are kept.

    `max_length` is clamped to the model's window. `on_progress(done, total)` counts rows x needs;
    `on_receipt` hears of every shard, and of which needs were measured now.
    """
    scorer = ShardScorer(
        pool, needs, loaded, store, max_length=max_length, token_budget=token_budget
    )
    total = len(pool) * len(scorer.keys)
    finished = inside = upto = 0

    def tick(rows: int) -> None:
        nonlocal inside
        inside += rows
        if on_progress is not None:
            on_progress(min(finished + inside, upto), total)

    for shard in range(pool.shards):
        upto = pool.bounds(shard)[1] * len(scorer.keys)
        receipt = scorer(shard, tick)
        finished, inside = upto, 0
        if on_progress is not None:
            on_progress(finished, total)
        if on_receipt is not None:
            on_receipt(receipt)
    return scorer.keys


def part(key: str, shard: int) -> str:
    """Where one shard of one measurement lies, without its ending."""
    return f"signals/{key}/part-{shard:05d}"


def _lengths(encoded: Sequence[Encoded], budget: int) -> Measurement:
    count = np.array([row.n_response for row in encoded], dtype=np.int64)
    reason = np.full(len(encoded), "", dtype=object)
    return Measurement({"total": count.astype(np.float64), "count": count}, reason, budget)


def _write(
    path: Path, rows: Sequence[Example], encoded: Sequence[Encoded], found: Measurement
) -> None:
    columns: dict[str, Any] = {
        "id": pa.array([row.id for row in rows], pa.string()),
        **{name: pa.array(values, from_pandas=True) for name, values in found.columns.items()},
        "n_prompt": pa.array([row.n_prompt for row in encoded], pa.int64()),
        "n_response": pa.array([row.n_response for row in encoded], pa.int64()),
        "truncated": pa.array([row.truncated for row in encoded], pa.bool_()),
        "reason": pa.array(list(found.reason), pa.string()),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def _counts(reason: np.ndarray[Any, Any]) -> Mapping[str, int]:
    names, counts = np.unique(reason[reason != ""].astype(str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}
