"""Shard after shard of a pool through a model, each committed with its manifest or redone."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pilotfish.data import Pool
from pilotfish.engine.batches import Measurement, Tick, default_budget, measure_pass
from pilotfish.engine.cache_keys import stage_key, stage_spec
from pilotfish.engine.forward import Forward
from pilotfish.engine.shard_files import shard_path, write_shard
from pilotfish.models import Loaded
from pilotfish.records import SKIPPED, Example, Need
from pilotfish.store import Store
from pilotfish.tokenization import Encoded, clamp_max_length, encode_needs

# Token counts only: no forward pass. For selectors that need no signal.
LENGTHS = Need("length")

Progress = Callable[[int, int], None]


class Receipt(NamedTuple):
    """What one call did."""

    shard: int
    rows: int
    measured: tuple[str, ...]  # keys measured now; the others were intact


class PassFilter(NamedTuple):
    """Which rows the model is to read; the others have no score, and that as their reason."""

    rows: NDArray[np.bool_]  # [n] of the whole pool
    digest: str  # names the choice: which rows share a batch, and so every bit, depends on it


class Prepared(NamedTuple):
    """A shard read and cut into tokens, for the needs that are missing of it."""

    shard: int
    rows: Sequence[Example]
    encoded: Mapping[Need, Sequence[Encoded]]


class Shards(Protocol):
    """Rows in shards, as a scorer asks for them: a Pool, or rows in memory."""

    @property
    def fingerprint(self) -> str:
        """Names the rows and how they are cut into shards."""

    def shard(self, i: int) -> list[Example]:
        """The rows of one shard."""

    def bounds(self, i: int) -> tuple[int, int]:
        """Where they begin and end among all rows."""


class ShardScorer:
    """Called with a shard number: reads, encodes, measures, commits. Knows no executor.

    Needs of one text form and condition share a forward pass, whose batches and bits are decided
    by the rows alone: a number never depends on what else was asked for.
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
        self._pool, self._loaded, self._store = pool, loaded, store
        self._only = only
        self._forward = Forward(loaded, real_ids=_real_ids(needs, loaded))
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
            | ({} if only is None else {"only": only.digest})
            for need in needs
        }
        self.keys: dict[Need, str] = {need: stage_key(spec) for need, spec in self._specs.items()}

    @property
    def specs(self) -> dict[str, dict[str, Any]]:
        """Need's name -> what decides its numbers."""
        return {need.name: spec for need, spec in self._specs.items()}

    @property
    def passes(self) -> int:
        """Forward passes over a row, token counts alone counting as one."""
        return len({_pass_of(need) for need in self.keys})

    def __call__(self, shard: int, tick: Tick | None = None) -> Receipt:
        """Measure what is missing of one shard; intact parts are left alone."""
        return self._measure(self._prepare(shard), tick)

    def over(self, shards: Iterable[int], tick: Tick | None = None) -> Iterator[Receipt]:
        """The same for many; a thread reads and encodes the next one while the model is busy."""
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
        missing = [need for need, key in self.keys.items() if not self._done(key, shard)]
        rows = self._pool.shard(shard) if missing else []
        tokenizer, limit = self._loaded.tokenizer, self._max_length
        encoded: Mapping[Need, Sequence[Encoded]] = encode_needs(rows, missing, tokenizer, limit)
        return Prepared(shard, rows, self._chosen(shard, encoded))

    def _chosen(
        self, shard: int, encoded: Mapping[Need, Sequence[Encoded]]
    ) -> Mapping[Need, Sequence[Encoded]]:
        """The rows to be read as they are, the others counted in tokens and no more."""
        if self._only is None:
            return encoded
        chosen = self._only.rows[slice(*self._pool.bounds(shard))]
        return {
            need: [
                row if wanted or need == LENGTHS else _unread(row)
                for row, wanted in zip(rows, chosen, strict=True)
            ]
            for need, rows in encoded.items()
        }

    def _done(self, key: str, shard: int) -> bool:
        return self._store.manifest(f"{shard_path(key, shard)}.json") is not None

    def _measure(self, work: Prepared, tick: Tick | None) -> Receipt:
        for asked in by_pass(work.encoded):
            for need, found in run_pass(asked, self._forward, self._budget, tick).items():
                self._commit(need, work, found)
        return Receipt(work.shard, len(work.rows), tuple(self.keys[n] for n in work.encoded))

    def _commit(self, need: Need, work: Prepared, found: Measurement) -> None:
        name = shard_path(self.keys[need], work.shard)
        with self._store.attempt(f"{name}.json") as attempt:
            rows = work.encoded[need]
            marked = _marked(need, rows, found)
            write_shard(attempt.path(f"{name}.parquet"), work.rows, rows, marked)
            attempt.meta = {
                "rows": len(work.rows),
                "spec": self._specs[need],
                "token_budget": found.token_budget,
                "batching": None if need == LENGTHS else self._forward.way.batching,
                "reasons": _counts(found.reason),
            }


def _real_ids(needs: Sequence[Need], loaded: Loaded) -> int | None:
    """What a student is taught is said over the tokenizer's ids, not over what pads the head."""
    spans = {need.span == "supervised" for need in needs}
    if len(spans) > 1:
        raise ValueError("what is taught and what is scored are measured by two scorers")
    return len(loaded.tokenizer) if spans == {True} else None


def _marked(need: Need, rows: Sequence[Encoded], found: Measurement) -> Measurement:
    """With the digest of the ids that each row was read as, where others must match them."""
    if need.span != "supervised":
        return found
    digests = np.array([row.digest for row in rows], dtype=np.uint64)
    return found._replace(columns={**found.columns, "ids": digests})


def _unread(row: Encoded) -> Encoded:
    nothing = row.ids[:0]
    reason = row.reason or SKIPPED
    return replace(row, ids=nothing, target=nothing.astype(bool), passage=None, reason=reason)


def _pass_of(need: Need) -> tuple[str, str]:
    """Needs with the same answer read the same passages."""
    if need == LENGTHS:
        return need.signal, ""
    return need.text, need.span if need.span == "supervised" else need.given


def by_pass(
    encoded: Mapping[Need, Sequence[Encoded]],
) -> list[dict[Need, Sequence[Encoded]]]:
    """Needs grouped by the forward pass that serves them."""
    grouped: dict[tuple[str, str], dict[Need, Sequence[Encoded]]] = {}
    for need, rows in encoded.items():
        grouped.setdefault(_pass_of(need), {})[need] = rows
    return list(grouped.values())


def run_pass(
    asked: Mapping[Need, Sequence[Encoded]],
    forward: Forward,
    token_budget: int,
    tick: Tick | None = None,
) -> dict[Need, Measurement]:
    """Measure the needs of one pass; token counts alone need no model."""
    if LENGTHS in asked:
        return {LENGTHS: _lengths(asked[LENGTHS], token_budget)}
    return measure_pass(asked, forward, token_budget=token_budget, tick=tick)


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

    `max_length` is clamped to the model's window. `on_progress(done, total)` counts rows x passes;
    `on_receipt` hears of every shard, and of which needs were measured now.
    """
    scorer = ShardScorer(
        pool, needs, loaded, store, max_length=max_length, token_budget=token_budget
    )
    total = len(pool) * scorer.passes
    finished = inside = 0

    def tick(rows: int) -> None:
        nonlocal inside
        inside += rows
        if on_progress is not None:
            on_progress(min(finished + inside, total), total)

    for receipt in scorer.over(range(pool.shards), tick):
        finished, inside = pool.bounds(receipt.shard)[1] * scorer.passes, 0
        if on_progress is not None:
            on_progress(finished, total)
        if on_receipt is not None:
            on_receipt(receipt)
    return scorer.keys


def _lengths(encoded: Sequence[Encoded], budget: int) -> Measurement:
    count = np.array([row.n_response for row in encoded], dtype=np.int64)
    reason = np.full(len(encoded), "", dtype=object)
    return Measurement({"total": count.astype(np.float64), "count": count}, reason, budget)


def _counts(reason: np.ndarray[Any, Any]) -> Mapping[str, int]:
    names, counts = np.unique(reason[reason != ""].astype(str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}
