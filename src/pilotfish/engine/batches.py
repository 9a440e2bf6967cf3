"""Measure encoded rows: equal ones once, in batches, with half the budget when memory runs out."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pilotfish.engine.batch_plan import distinct, plan
from pilotfish.engine.forward import Forward, TokenQuery
from pilotfish.engine.signals import SIGNALS
from pilotfish.engine.signals.sampled import Sampled
from pilotfish.engine.signals.tokens import Column
from pilotfish.errors import OutOfMemory
from pilotfish.records import Ints, Need, Ragged, Texts
from pilotfish.tokenization import Encoded, Passage

Tick = Callable[[int], None]  # called with the number of rows that a batch finished


class Measurement(NamedTuple):
    """One need of n rows, measured."""

    columns: dict[str, Column]  # [n] each; where a row has a reason: nan, 0, or an empty stretch
    reason: Texts  # [n] "" where measured
    token_budget: int  # tokens per batch that fitted into memory


def default_budget(device: torch.device) -> int:
    """Return the tokens per forward pass where the caller sets no budget."""
    return 2048 if device.type == "cpu" else 16384


def measure_rows(
    rows: Sequence[Encoded], forward: Forward, *, signal: str, token_budget: int
) -> Measurement:
    """Measure one signal of rows; see `measure_pass`."""
    need = Need(signal)
    return measure_pass({need: rows}, forward, token_budget=token_budget)[need]


def measure_pass(
    encoded: Mapping[Need, Sequence[Encoded]],
    forward: Forward,
    *,
    token_budget: int,
    tick: Tick | None = None,
) -> dict[Need, Measurement]:
    """Measure needs that read the same passages, all with one forward pass.

    The passages alone decide which rows share a batch, and so every bit. When memory runs out, all
    rows are measured again with half the budget, so the plan stays a function of rows and budget.
    A row too big for a batch of its own gets the reason `oom_single_row`; one with an id that the
    model has no embedding for gets `model_error`.

    Args:
        encoded: The same n rows per need; their passages are equal, their targets differ.
        forward: The model.
        token_budget: Tokens per batch.
        tick: Called after each batch.
    """
    rows = next(iter(encoded.values()))
    failure = np.full(len(rows), "", dtype=object)  # [n] why the model cannot read a row
    for index, row in enumerate(rows):
        if not len(row.read.ids):
            failure[index] = "nothing"  # the row has a reason of its own
        elif row.read.ids.max() >= forward.vocabulary:
            failure[index] = "model_error"  # on a GPU it would crash the device, not one row
    readable = np.flatnonzero(failure == "")
    groups = distinct([rows[i] for i in readable.tolist()])
    firsts: list[int] = readable[groups.first].tolist()  # [u] one row of each group
    passages = [rows[i].read for i in firsts]
    repeats = np.bincount(groups.kind, minlength=len(passages))
    while True:
        batches = _batches(passages, groups.key, forward, token_budget)
        queries = {need: _query(need, [of[i] for i in firsts]) for need, of in encoded.items()}
        too_big = _run(batches, passages, repeats, forward, list(queries.values()), tick)
        if too_big is not None:
            break
        token_budget //= 2
    failure[readable[np.isin(groups.kind, too_big)]] = "oom_single_row"
    source = np.full(len(rows), -1)  # [n] group of each row
    source[readable] = groups.kind
    return {
        need: _measurement(query, encoded[need], failure, source, token_budget)
        for need, query in queries.items()
    }


def _batches(
    passages: Sequence[Passage], keys: Sequence[bytes], forward: Forward, token_budget: int
) -> list[Ints]:
    if not passages:  # nothing to read: the probe for the batching mode must not run
        return []
    return plan(
        [len(passage.ids) for passage in passages],
        token_budget,
        tie=keys,
        padded=forward.mode.batching != "packed",
        max_shared_length=forward.max_shared_length,
    )


def _query(need: Need, rows: Sequence[Encoded]) -> TokenQuery:
    """Start the reducer of a need for one row of each group."""
    reducer = SIGNALS[need.signal](need.size)
    if isinstance(reducer, Sampled):
        reducer.seed = need.seed
    reducer.start(len(rows))
    targets = []
    for row in rows:  # a need may read a beginning of the passage only
        target = np.zeros(len(row.read.ids), dtype=bool)
        target[: len(row.target)] = row.target
        targets.append(target)
    return TokenQuery(reducer, targets)


def _run(
    batches: Sequence[Ints],
    passages: Sequence[Passage],
    repeats: Ints,
    forward: Forward,
    queries: Sequence[TokenQuery],
    tick: Tick | None,
) -> list[int] | None:
    """Run all batches.

    Args:
        batches: Indices into `passages`.
        passages: One per group of equal rows.
        repeats: [u] rows of each group, for `tick`.
        forward: The model.
        queries: The reducers that take in the tokens.
        tick: Called after each batch with its number of rows.

    Returns:
        The passages too big for a batch of their own; None as soon as a larger batch does not fit.
    """
    too_big: list[int] = []
    for batch in batches:
        if not _fits(forward, [passages[i] for i in batch], batch, queries):
            if len(batch) > 1:
                return None
            too_big.append(int(batch[0]))
        if tick is not None:
            tick(int(repeats[batch].sum()))
    return too_big


def _fits(
    forward: Forward, passages: Sequence[Passage], batch: Ints, queries: Sequence[TokenQuery]
) -> bool:
    """Run one batch; return False where there is not enough memory for it."""
    try:
        forward.run(passages, batch, queries)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    else:
        return True
    # Outside the handler: until here the exception kept the batch's tensors alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a device or the machine has no memory left."""
    return OutOfMemory.of(error) is not None


def _measurement(
    query: TokenQuery, rows: Sequence[Encoded], failure: Texts, source: Ints, token_budget: int
) -> Measurement:
    """Give each row the numbers of its group, or the reason why it has none."""
    reason: Texts = np.array([row.reason for row in rows], dtype=object)
    reason = np.where((reason == "") & (failure != "nothing"), failure, reason)
    columns = query.reducer.finish()
    total = _expand(columns["total"], source, source >= 0)
    reason[(reason == "") & ~np.isfinite(np.asarray(total))] = "nonfinite"
    usable = reason == ""
    wide = {name: _expand(values, source, usable) for name, values in columns.items()}
    return Measurement(wide, reason, token_budget)


def _expand(values: Column, source: Ints, usable: NDArray[np.bool_]) -> Column:
    """Return values[source] of the usable rows; nan, 0 or an empty stretch for the others."""
    if isinstance(values, Ragged):
        empty = values.flat[:0]
        pieces = [values[k] if ok else empty for k, ok in zip(source, usable, strict=True)]
        return Ragged(np.concatenate([empty, *pieces]), np.cumsum([0, *map(len, pieces)]))
    blank = np.nan if values.dtype.kind == "f" else 0
    wide = np.full((len(source), *values.shape[1:]), blank, dtype=values.dtype)
    wide[usable] = values[source[usable]]
    return wide
