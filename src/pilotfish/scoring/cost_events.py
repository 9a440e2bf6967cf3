"""The price of scoring, written down shard by shard: a kill loses that of what was in hand."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pilotfish.data import Pool
from pilotfish.engine.executors.launch import passes_paid
from pilotfish.flops import RESUME, charged_flops
from pilotfish.records import Ints, Need
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.engine.scorer import Receipt
    from pilotfish.models import Loaded


class CostTracker:
    """Charges the stage `score` for every shard once it is measured, and for the rest at the end.

    What was intact is charged nothing: an earlier event told of it, or another rank's.
    """

    def __init__(self, run: Run, pool: Pool, columns: Sequence[str]) -> None:
        self._run, self._pool = run, pool
        self._name = ",".join(columns)
        self._known = {*columns} <= {*run.section("scores")}
        self._last, self._worked = time.monotonic(), False

    def begin(
        self, weak: "Loaded", keys: Mapping[Need, str], only: NDArray[np.bool_] | None = None
    ) -> None:
        """What is about to be measured; only: [n] the rows that are read, where not all are."""
        self._weak, self._keys, self._only = weak, keys, only

    def after(self, receipt: "Receipt") -> None:
        """A shard is finished."""
        if receipt.measured:
            paid = {receipt.shard: passes_paid(receipt, self._keys)}
            spent = charged_flops(self._weak, paid, self._lengths)
            self.charge(rows=self._rows(receipt), **spent)

    def charge(self, **facts: float) -> None:
        """What was done since the last charge; the seconds are counted here."""
        self._worked = True
        self._tell("score", **facts)

    def rest(self) -> None:
        """What came after the last shard, or looking at what stood there already."""
        if self._known and not self._worked:
            self._tell(RESUME, rows=0, tokens=0, flops=0)  # no part of what the selection cost
        else:
            self._tell("score", rows=0)

    def _tell(self, stage: str, **facts: float) -> None:
        now = time.monotonic()
        self._run.cost(stage, self._name, seconds=now - self._last, **facts)
        self._last = now

    def _rows(self, receipt: "Receipt") -> int:
        if self._only is None:
            return receipt.rows
        return int(self._only[slice(*self._pool.bounds(receipt.shard))].sum())

    def _lengths(self, shard: int) -> Ints:
        """[n] tokens of a shard's rows as the model read them."""
        from pilotfish.engine.shard_files import features_of_shard

        need = next(iter(self._keys))
        seen, _ = features_of_shard(
            self._pool, {need: self._keys[need]}, self._run.store, need, shard
        )
        lengths = seen.n_prompt_tokens + seen.n_response_tokens
        if self._only is None:
            return lengths
        return np.where(self._only[slice(*self._pool.bounds(shard))], lengths, 0)
