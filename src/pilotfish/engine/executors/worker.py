"""One worker: a shard number in, a receipt or the trouble out; knows no executor."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import torch

from pilotfish import remote_code
from pilotfish.data import Pool
from pilotfish.engine.batches import default_budget
from pilotfish.engine.executors.failures import WorkerFailure
from pilotfish.engine.scorer import PassFilter, Receipt, ShardScorer
from pilotfish.errors import UsageError
from pilotfish.models import Loaded, load
from pilotfish.records import Need
from pilotfish.store import Store


@dataclass(frozen=True)
class ScoreSpec:
    """Everything that decides what a worker measures, and nothing that it can find in the run."""

    root: str  # the run folder, on a disk that every worker sees
    model: str  # as the worker loads it: a folder, or a hub id
    digest: str  # of that model: a worker that finds another one must not measure
    needs: tuple[Need, ...]
    max_length: int
    precision: str = "auto"
    token_budget: int | None = None
    device: str | None = None
    threads: int = 1  # of one forward pass on a CPU: sums are cut by it, so bits depend on it
    trust_remote_code: bool = False  # asked for where the run was started, maybe elsewhere
    only: str | None = None  # a committed file of the run (no ending): column `scored`, the rows


def load_model(spec: ScoreSpec) -> Loaded:
    """The model of a worker, its CPU threads settled. Raises UsageError where it is another one."""
    torch.set_num_threads(spec.threads)
    with remote_code.allowing(spec.trust_remote_code):
        loaded = load(spec.model, device=spec.device, precision=spec.precision)
    if loaded.digest != spec.digest:
        raise UsageError(
            f"a worker found another model under {spec.model} than the one the run was planned for",
            hint="give all workers the same files: a folder on a shared disk, or one hub cache",
        )
    return loaded


def open_scorer(spec: ScoreSpec, loaded: Loaded | None = None) -> ShardScorer:
    """The scorer of a worker; `loaded` spares reading the model again.

    Raises UsageError where the run or the model cannot be seen from here, or is another one.
    """
    store = Store(Path(spec.root))
    if not store.path("run.json").is_file():
        raise UsageError(
            f"a worker does not see the run folder {spec.root}",
            hint="put --out on a disk that all workers share",
        )
    loaded = loaded or load_model(spec)
    torch.set_num_threads(spec.threads)
    return ShardScorer(
        Pool.open(store), spec.needs, loaded, store,
        max_length=spec.max_length, token_budget=spec.token_budget,
        only=None if spec.only is None else _only(store, spec.only),
    )  # fmt: skip


def _only(store: Store, name: str) -> PassFilter:
    store.require(f"{name}.json")
    table = pq.read_table(store.path(f"{name}.parquet"), columns=["scored"])
    rows = table["scored"].to_numpy()
    return PassFilter(rows, hashlib.sha256(rows.tobytes()).hexdigest())


class WorkerInfo(NamedTuple):
    """A worker's first word: what it will measure, and how; it must be the same for all."""

    keys: dict[Need, str]
    device: str
    precision: str
    token_budget: int
    threads: int | None  # where bits depend on it
    specs: dict[str, dict[str, Any]]  # need's name -> what its key is the hash of

    @classmethod
    def of(cls, spec: ScoreSpec, loaded: Loaded, scorer: ShardScorer) -> "WorkerInfo":
        """What a scorer is about to do."""
        budget = spec.token_budget or default_budget(loaded.device)
        device = loaded.device.type
        threads = spec.threads if device == "cpu" else None
        return cls(scorer.keys, device, loaded.precision, budget, threads, scorer.specs)


class Worker:
    """A scorer that reads the next shard while it measures the one it was given.

    No error leaves it but as Trouble. After one it is to be replaced: what broke a shard may have
    broken the device.
    """

    def __init__(self, spec: ScoreSpec) -> None:
        self._spec = spec
        self._scorer: ShardScorer | None = None
        self._numbers: SimpleQueue[int | None] = SimpleQueue()
        self._receipts: Iterator[Receipt] = iter(())
        self._promised: int | None = None

    def open(self) -> WorkerInfo | WorkerFailure:
        """Load the model and find out what is to be measured."""
        try:
            loaded = load_model(self._spec)
            self._scorer = open_scorer(self._spec, loaded)
            return WorkerInfo.of(self._spec, loaded, self._scorer)
        except Exception as error:
            return WorkerFailure.of(error)

    def score(self, shard: int, then: int | None = None) -> Receipt | WorkerFailure:
        """Measure what is missing of a shard; `then` is the one that will be asked for next."""
        try:
            return self._next(shard, then)
        except Exception as error:
            return WorkerFailure.of(error)

    def _next(self, shard: int, then: int | None) -> Receipt:
        assert self._scorer is not None, "open() comes first"
        if shard != self._promised:
            self._numbers = SimpleQueue()
            self._numbers.put(shard)
            self._receipts = self._scorer.over(iter(self._numbers.get, None))
        self._numbers.put(then)
        self._promised = then
        return next(self._receipts)
