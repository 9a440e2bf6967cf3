"""Measure a pool shard by shard; each shard is committed with its manifest, or redone.

The way of a shard: rows are read and tokenised (`_prepare`); needs that read the same passages
share a forward pass (`by_pass`); a pass runs in batches (`batches.measure_pass`), each of them
through the model and its head into reducers (`forward.Forward`); the columns of each need become
one parquet file (`shard_files.write_shard`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pilotfish.engine.batches import Measurement, Tick, default_budget, measure_pass
from pilotfish.engine.cache_keys import stage_key, stage_spec
from pilotfish.engine.forward import Forward
from pilotfish.engine.shard_files import shard_path, write_shard
from pilotfish.engine.signals.tokens import Column
from pilotfish.models import Loaded
from pilotfish.records import SKIPPED, Example, Need
from pilotfish.store import Store
from pilotfish.tokenization import Encoded, clamp_max_length, encode_needs

# Token counts only, without a forward pass: for methods that need no signal.
LENGTHS = Need("length")


class Receipt(NamedTuple):
    """The work done for one shard."""

    shard: int
    rows: int
    measured: tuple[str, ...]  # keys measured now; the files of the others were intact


class PassFilter(NamedTuple):
    """Which rows the model reads; the others get no score, and the filter as their reason."""

    rows: NDArray[np.bool_]  # [n] of the whole pool
    digest: str  # of the choice: it decides which rows share a batch, and so every bit


class Prepared(NamedTuple):
    """A shard, tokenised for the needs that are missing of it."""

    shard: int
    rows: Sequence[Example]
    encoded: Mapping[Need, Sequence[Encoded]]


class Shards(Protocol):
    """Rows in shards: a Pool, or rows in memory."""

    @property
    def fingerprint(self) -> str:
        """Digest of the rows and of how they are divided into shards."""

    def shard(self, i: int) -> list[Example]:
        """Return the rows of one shard."""

    def bounds(self, i: int) -> tuple[int, int]:
        """Return where a shard begins and ends among all rows."""


class ShardScorer:
    """Measures the needs of one shard at a time, in any process that has the pool and the model.

    Needs of one text form and condition share a forward pass. The rows alone decide its batches
    and so its bits: a number never depends on which other needs are measured.
    """

    def __init__(
        self,
        pool: Shards,
        needs: Sequence[Need],
        loaded: Loaded,
        store: Store,
        *,
        max_length: int,
        token_budget: int | None = None,
        only: PassFilter | None = None,
    ) -> None:
        """Prepare a scorer; nothing is read yet.

        Args:
            pool: The rows.
            needs: What to measure: all with the span "supervised", or none.
            loaded: The model.
            store: Where shard files are committed.
            max_length: Tokens per row, at most the model's window.
            token_budget: Tokens per batch; None for a default of the device.
            only: Which rows the model reads; None for all.

        Raises:
            ValueError: Needs of training and needs of scoring are mixed.
        """
        supervised = {need.span == "supervised" for need in needs}
        if len(supervised) > 1:
            raise ValueError("needs of training and needs of scoring take two scorers")
        # Distillation learns over the tokenizer's ids, without the ids that only pad the head.
        real_ids = len(loaded.tokenizer) if supervised == {True} else None
        self._pool, self._loaded, self._store, self._only = pool, loaded, store, only
        self._forward = Forward(loaded, real_ids=real_ids)
        self._max_length = clamp_max_length(max_length, loaded.window)
        self._budget = token_budget or default_budget(loaded.device)
        self._specs: dict[Need, dict[str, Any]] = {}
        for need in needs:
            spec = stage_spec(
                pool.fingerprint,
                need,
                loaded,
                max_length=self._max_length,
                token_budget=self._budget,
            )
            self._specs[need] = spec if only is None else {**spec, "only": only.digest}
        self.keys: dict[Need, str] = {need: stage_key(spec) for need, spec in self._specs.items()}

    @property
    def specs(self) -> dict[str, dict[str, Any]]:
        """By name of the need, everything its numbers depend on."""
        return {need.name: spec for need, spec in self._specs.items()}

    def __call__(self, shard: int, tick: Tick | None = None) -> Receipt:
        """Measure what is missing of one shard; intact files are kept."""
        return self._measure(self._prepare(shard), tick)

    def over(self, shards: Iterable[int], tick: Tick | None = None) -> Iterator[Receipt]:
        """Measure shards in order; a thread reads and tokenises the next one meanwhile."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as ahead:
            waiting: Future[Prepared] | None = None
            for shard in shards:
                coming = ahead.submit(self._prepare, shard)
                if waiting is not None:
                    yield self._measure(waiting.result(), tick)
                waiting = coming
            if waiting is not None:
                yield self._measure(waiting.result(), tick)

    def _prepare(self, shard: int) -> Prepared:
        """Read and tokenise a shard for the needs that have no intact file of it."""
        missing = [
            need
            for need, key in self.keys.items()
            if self._store.manifest(f"{shard_path(key, shard)}.json") is None
        ]
        rows = self._pool.shard(shard) if missing else []
        encoded = encode_needs(rows, missing, self._loaded.tokenizer, self._max_length)
        if self._only is not None:  # the other rows are counted in tokens, and not read
            reads = self._only.rows[slice(*self._pool.bounds(shard))]
            for need in encoded.keys() - {LENGTHS}:
                pairs = zip(encoded[need], reads, strict=True)
                encoded[need] = [row if read else _unread(row) for row, read in pairs]
        return Prepared(shard, rows, encoded)

    def _measure(self, work: Prepared, tick: Tick | None) -> Receipt:
        for encoded in by_pass(work.encoded):
            for need, found in run_pass(encoded, self._forward, self._budget, tick).items():
                self._commit(need, work, found)
        return Receipt(work.shard, len(work.rows), tuple(self.keys[n] for n in work.encoded))

    def _commit(self, need: Need, work: Prepared, found: Measurement) -> None:
        name, rows = shard_path(self.keys[need], work.shard), work.encoded[need]
        if need.span == "supervised":  # training compares them with the ids it is about to learn
            digests = np.array([row.digest for row in rows], dtype=np.uint64)
            found = found._replace(columns={**found.columns, "ids": digests})
        with self._store.attempt(f"{name}.json") as attempt:
            write_shard(attempt.path(f"{name}.parquet"), work.rows, rows, found)
            attempt.meta = {
                "rows": len(work.rows),
                "spec": self._specs[need],
                "token_budget": found.token_budget,
                "batching": None if need == LENGTHS else self._forward.mode.batching,
                "reasons": dict(
                    sorted(Counter(str(each) for each in found.reason if each).items())
                ),
            }


def _unread(row: Encoded) -> Encoded:
    empty = row.ids[:0]
    reason = row.reason or SKIPPED
    return replace(row, ids=empty, target=empty.astype(bool), passage=None, reason=reason)


def by_pass(
    encoded: Mapping[Need, Sequence[Encoded]],
) -> list[dict[Need, Sequence[Encoded]]]:
    """Group needs by the forward pass they share: those that read the same passages."""
    grouped: dict[tuple[str, str], dict[Need, Sequence[Encoded]]] = {}
    for need, rows in encoded.items():
        same = (need.text, need.span if need.span == "supervised" else need.given)
        grouped.setdefault((need.signal, "") if need == LENGTHS else same, {})[need] = rows
    return list(grouped.values())


def run_pass(
    encoded: Mapping[Need, Sequence[Encoded]],
    forward: Forward,
    token_budget: int,
    tick: Tick | None = None,
) -> dict[Need, Measurement]:
    """Measure the needs of one pass; token counts need no model.

    Args:
        encoded: The n rows per need, as `by_pass` groups them.
        forward: The model.
        token_budget: Tokens per batch.
        tick: Called after each batch with its number of rows.
    """
    if LENGTHS in encoded:
        count = np.array([row.n_response for row in encoded[LENGTHS]], dtype=np.int64)
        columns: dict[str, Column] = {"total": count.astype(np.float64), "count": count}
        return {LENGTHS: Measurement(columns, np.full(len(count), "", dtype=object), token_budget)}
    return measure_pass(encoded, forward, token_budget=token_budget, tick=tick)
