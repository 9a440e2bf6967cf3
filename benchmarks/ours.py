"""pilotfish as a contender: the path users take, from encoded shards to committed numbers.

The only file of the benchmarks that knows the engine's entry points.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.rank import Floats
from pilotfish.config.data import Source
from pilotfish.data import read
from pilotfish.engine.batches import find_budget
from pilotfish.engine.forward import Forward
from pilotfish.engine.scorer import ShardScorer
from pilotfish.engine.shard_files import load_features, shard_path
from pilotfish.models import load
from pilotfish.records import Measured, Need
from pilotfish.store import Store
from pilotfish.tokenization import Passage

# What Superfiltering asks of a model: the response's NLL with its prompt and without it.
NEEDS = {
    "prompt": Need("nll", text="superfiltering", given="prompt"),
    "nothing": Need("nll", text="superfiltering", given="nothing"),
}


class Ours:
    """A pool, a loaded model and the shard scorer; every run measures everything again."""

    def __init__(
        self,
        model: Path,
        data: Path,
        work: Path,
        *,
        precision: str,
        max_length: int,
        device: str = "cpu",
    ) -> None:
        """Load and read, which is not timed. Raises UsageError for an unknown precision."""
        self.loaded = load(str(model), device=device, precision=precision)
        self.token_budget = find_budget(self.loaded)
        self._store = Store(work)
        self._pool = read(Source(str(data)), self._store)
        self._place = np.argsort(self._pool.columns("row")["row"])
        self._scorer = ShardScorer(
            self._pool,
            list(NEEDS.values()),
            self.loaded,
            self._store,
            max_length=max_length,
            token_budget=self.token_budget,
        )

    def prepare(self) -> None:
        """Forget what was measured; the scorer keeps what it found out about the model."""
        for key in self._scorer.keys.values():
            for shard in range(self._pool.shards):
                self._store.forget(f"{shard_path(key, shard)}.json")

    def run(self) -> None:
        """Tokenise, measure both passes, commit."""
        for _ in self._scorer.over(range(self._pool.shards)):
            pass

    def numbers(self) -> dict[str, Floats]:
        """Mean NLL [n] of each pass in the order of the data, nan where there is none."""
        return {given: self._measured(need).mean[self._place] for given, need in NEEDS.items()}

    def lengths(self) -> NDArray[np.int64]:
        """Scored tokens [n] of each response given its prompt."""
        return self._measured(NEEDS["prompt"]).count[self._place]

    def _measured(self, need: Need) -> Measured:
        keys = {need: self._scorer.keys[need]}
        seen, _ = load_features(self._pool, keys, self._store, need)
        return seen[need]


def padding(ours: Ours) -> float:
    """Positions that enter the model for every token of a row, minus one, over one run."""
    entered, real = [0], [0]
    table = ours.loaded.model.get_input_embeddings()
    hook = table.register_forward_hook(lambda _, given, __: entered.append(given[0].numel()))
    run = Forward.run

    def counting(self: Forward, passages: Sequence[Passage], *given: Any) -> None:
        real.append(sum(len(passage.ids) for passage in passages))
        run(self, passages, *given)

    with patch.object(Forward, "run", counting):
        ours.run()  # also finds the way of batching, whose probe is no row
        ours.prepare()
        entered[:], real[:] = [0], [0]
        ours.run()
    hook.remove()
    return sum(entered) / sum(real) - 1


@contextmanager
def model_clock(device: str = "cpu") -> Iterator[list[float]]:
    """Inside, a list grows by the seconds of every batch's forward pass, head included."""
    spent: list[float] = []
    run = Forward.run

    def timed(self: Forward, *given: Any) -> None:
        begin = time.perf_counter()
        run(self, *given)
        if device == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - begin)

    with patch.object(Forward, "run", timed):
        yield spent
