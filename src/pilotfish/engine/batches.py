"""Measures encoded rows: equal ones once, batch after batch, the budget halved when memory ends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pilotfish.engine.batch_plan import Distinct, distinct, plan
from pilotfish.engine.forward import Forward, TokenQuery
from pilotfish.engine.signals import SIGNALS, Column, Sampled
from pilotfish.errors import OutOfMemory
from pilotfish.records import Ints, Need, Ragged, Texts
from pilotfish.tokenization import Encoded

Tick = Callable[[int], None]


class Measurement(NamedTuple):
    """What was measured for n rows."""

    columns: dict[str, Column]  # [n] each; floats are nan where there is a reason, Ragged empty
    reason: Texts  # [n]
    token_budget: int  # the one that fitted


def default_budget(device: torch.device) -> int:
    """Tokens per forward pass where nobody says otherwise."""
    return 2048 if device.type == "cpu" else 16384


def measure_rows(
    rows: Sequence[Encoded],
    forward: Forward,
    *,
    signal: str,
    token_budget: int,
    tick: Tick | None = None,
) -> Measurement:
    """`measure_pass` for one signal."""
    need = Need(signal)
    return measure_pass({need: rows}, forward, token_budget=token_budget, tick=tick)[need]


def measure_pass(
    asked: Mapping[Need, Sequence[Encoded]],
    forward: Forward,
    *,
    token_budget: int,
    tick: Tick | None = None,
) -> dict[Need, Measurement]:
    """Measure needs that read the same passages, row by row, with one forward pass for all.

    Which rows share a batch, and so every bit, is decided by the passages alone. Out of memory:
    all rows are redone with half the budget, so that the plan stays a function of rows and budget;
    a row too big on its own gets the reason `oom_single_row`, one with an id the model has no
    embedding for `model_error`.
    """
    rows = next(iter(asked.values()))
    readable = _readable(rows, forward)
    found = distinct([rows[int(i)] for i in np.flatnonzero(readable == "")])
    job = _Job(np.flatnonzero(readable == ""), found, asked, forward, tick)
    asks, too_big, budget = job.run(token_budget)
    readable[job.places[np.isin(found.kind, list(too_big))]] = "oom_single_row"
    return {
        need: Measurement(*_spread(job, ask, asked[need], readable), budget)
        for need, ask in asks.items()
    }


def _readable(rows: Sequence[Encoded], forward: Forward) -> Texts:
    """[n] "" where a forward pass makes sense, else a reason ("nothing": the row has its own).

    An id without an embedding crashes one row on a CPU, and the whole device on a GPU.
    """
    reason = np.full(len(rows), "", dtype=object)
    for index, row in enumerate(rows):
        if not len(row.read.ids):
            reason[index] = "nothing"
        elif row.read.ids.max() >= forward.vocabulary:
            reason[index] = "model_error"
    return reason


@dataclass(frozen=True)
class _Job:
    """Distinct passages on their way through a model."""

    places: Ints  # [r] which rows are readable
    found: Distinct
    asked: Mapping[Need, Sequence[Encoded]]
    forward: Forward
    tick: Tick | None

    def run(self, budget: int) -> tuple[dict[Need, TokenQuery], set[int], int]:
        """The asks with filled reducers, the kinds too big on their own, the budget that fitted."""
        while True:
            asks = {need: self._ask(need, rows) for need, rows in self.asked.items()}
            too_big = self._all_batches(list(asks.values()), budget)
            if too_big is not None:
                return asks, too_big, budget
            budget //= 2

    def _ask(self, need: Need, rows: Sequence[Encoded]) -> TokenQuery:
        reducer = SIGNALS[need.signal](need.size)
        if isinstance(reducer, Sampled):
            reducer.seed = need.seed
        reducer.start(len(self.found.first))
        return TokenQuery(reducer, [_target(rows[i]) for i in self.places[self.found.first]])

    def _all_batches(self, asks: Sequence[TokenQuery], budget: int) -> set[int] | None:
        """Kinds too big on their own; None as soon as a batch of several does not fit."""
        rows = next(iter(self.asked.values()))
        kinds = [rows[i].read for i in self.places[self.found.first]]
        repeats = np.bincount(self.found.kind, minlength=len(kinds))
        too_big: set[int] = set()
        for batch in self._plan([len(kind.ids) for kind in kinds], budget):
            if not _fits(partial(self.forward.run, [kinds[i] for i in batch], batch, asks)):
                if len(batch) > 1:
                    return None
                too_big.add(int(batch[0]))
            if self.tick is not None:
                self.tick(int(repeats[batch].sum()))
        return too_big

    def _plan(self, lengths: Sequence[int], budget: int) -> list[Ints]:
        if not lengths:
            return []
        padded = self.forward.way.batching != "packed"
        alone = self.forward.alone_above
        return plan(lengths, budget, tie=self.found.key, padded=padded, alone_above=alone)


def _target(row: Encoded) -> NDArray[np.bool_]:
    """[t] which tokens of the row's passage count."""
    wide = np.zeros(len(row.read.ids), dtype=bool)
    wide[: len(row.target)] = row.target
    return wide


def _spread(
    job: _Job, ask: TokenQuery, rows: Sequence[Encoded], readable: Texts
) -> tuple[dict[str, Column], Texts]:
    """What was measured for each kind, given to every row of the kind; and who has no number."""
    reason: Texts = np.array([row.reason for row in rows], dtype=object)
    reason = np.where((reason == "") & (readable != "nothing"), readable, reason)
    columns = ask.reducer.finish()
    total = _fan_out(columns["total"], job, len(rows))
    reason[(reason == "") & ~np.isfinite(np.asarray(total))] = "nonfinite"
    wide = {name: _fan_out(values, job, len(rows)) for name, values in columns.items()}
    return {name: _blank(values, reason != "") for name, values in wide.items()}, reason


def _fan_out(values: Column, job: _Job, n: int) -> Column:
    if isinstance(values, Ragged):
        return _fan_out_ragged(values, job, n)
    empty = np.nan if values.dtype.kind == "f" else 0
    wide = np.full((n, *values.shape[1:]), empty, dtype=values.dtype)
    wide[job.places] = values[job.found.kind]
    return wide


def _fan_out_ragged(values: Ragged, job: _Job, n: int) -> Ragged:
    kind = np.full(n, -1)
    kind[job.places] = job.found.kind
    pieces = [values[k] if k >= 0 else values.flat[:0] for k in kind]
    offsets = np.cumsum([0, *map(len, pieces)])
    return Ragged(np.concatenate([values.flat[:0], *pieces]), offsets)


def _blank(values: Column, bad: NDArray[np.bool_]) -> Column:
    """Nothing that looks like a number where there is a reason."""
    if isinstance(values, Ragged):
        size = np.where(bad, 0, np.diff(values.offsets))
        keep = np.repeat(~bad, np.diff(values.offsets))
        return Ragged(values.flat[keep], np.cumsum([0, *size]))
    values[bad] = np.nan if values.dtype.kind == "f" else 0
    return values


def _fits(batch: Callable[[], None]) -> bool:
    try:
        batch()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    else:
        return True
    # Outside the handler: the exception held the batch's tensors alive until here.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device or the machine has no memory left."""
    return OutOfMemory.of(error) is not None
