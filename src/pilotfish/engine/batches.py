"""Measures encoded rows: equal ones once, batch after batch, the budget halved when memory ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from pilotfish.encode import Encoded
from pilotfish.engine.forward import Forward
from pilotfish.engine.plan import Distinct, distinct, plan
from pilotfish.records import Texts
from pilotfish.signals import SIGNALS, Signal

Tick = Callable[[int], None]


class Measurement(NamedTuple):
    """What was measured for n rows."""

    columns: dict[str, np.ndarray[Any, Any]]  # [n] each; floats are nan where there is a reason
    reason: Texts  # [n]
    token_budget: int  # the one that fitted


def default_budget(device: torch.device) -> int:
    """Padded tokens per forward pass where nobody says otherwise."""
    return 2048 if device.type == "cpu" else 16384


def measure_rows(
    rows: Sequence[Encoded],
    forward: Forward,
    *,
    signal: str,
    token_budget: int,
    tick: Tick | None = None,
) -> Measurement:
    """Measure every usable row.

    Out of memory: all rows are redone with half the budget, so that the plan stays a function of
    rows and budget; a row too big on its own gets the reason `oom_single_row`, one with an id the
    model has no embedding for `model_error`.
    """
    reason: Texts = np.array([row.reason for row in rows], dtype=object)
    _mark_unknown_ids(rows, reason, forward)
    usable = np.flatnonzero(reason == "")
    found = distinct([rows[int(i)] for i in usable])
    kinds = [rows[int(i)] for i in usable[found.first]]
    reducer, too_big, budget = _Job(kinds, found, forward, signal, tick).run(token_budget)
    columns = {
        name: _fan_out(values, found, usable, len(rows))
        for name, values in reducer.finish().items()
    }
    reason[usable[np.isin(found.kind, list(too_big))]] = "oom_single_row"
    odd = (reason == "") & ~np.isfinite(columns["total"])
    reason[odd] = "nonfinite"
    for values in columns.values():
        values[reason != ""] = np.nan if values.dtype.kind == "f" else 0
    return Measurement(columns, reason, budget)


def _mark_unknown_ids(rows: Sequence[Encoded], reason: Texts, forward: Forward) -> None:
    """An id without an embedding crashes one row on a CPU, and the whole device on a GPU."""
    for index in np.flatnonzero(reason == ""):
        if rows[int(index)].ids.max() >= forward.vocabulary:
            reason[index] = "model_error"


@dataclass(frozen=True)
class _Job:
    """Distinct rows on their way through a model."""

    kinds: Sequence[Encoded]
    found: Distinct
    forward: Forward
    signal: str
    tick: Tick | None

    def run(self, budget: int) -> tuple[Signal, set[int], int]:
        """The filled reducer, the kinds too big on their own, and the budget that fitted."""
        while True:
            reducer = SIGNALS[self.signal]()
            reducer.start(len(self.kinds))
            too_big = self._all_batches(reducer, budget)
            if too_big is not None:
                return reducer, too_big, budget
            budget //= 2

    def _all_batches(self, reducer: Signal, budget: int) -> set[int] | None:
        """Kinds too big on their own; None as soon as a batch of several does not fit."""
        repeats = np.bincount(self.found.kind, minlength=len(self.kinds))
        too_big: set[int] = set()
        lengths = [len(row.ids) for row in self.kinds]
        for batch in plan(lengths, budget, tie=self.found.key):
            if not _fits([self.kinds[i] for i in batch], batch, self.forward, reducer):
                if len(batch) > 1:
                    return None
                too_big.add(int(batch[0]))
            if self.tick is not None:
                self.tick(int(repeats[batch].sum()))
        return too_big


def _fits(
    rows: Sequence[Encoded], where: np.ndarray[Any, Any], forward: Forward, reducer: Signal
) -> bool:
    try:
        forward.run(rows, where, reducer)
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
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        word in str(error).lower() for word in words
    )


def _fan_out(
    values: np.ndarray[Any, Any], found: Distinct, usable: np.ndarray[Any, Any], n: int
) -> np.ndarray[Any, Any]:
    empty = np.nan if values.dtype.kind == "f" else 0
    wide = np.full(n, empty, dtype=values.dtype)
    wide[usable] = values[found.kind] if len(values) else values
    return wide
