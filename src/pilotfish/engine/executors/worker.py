"""Measure shards in one process: what a worker is sent, how it answers, and what it tries again."""

import hashlib
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import torch

from pilotfish import remote_code
from pilotfish.data import Pool
from pilotfish.engine.batches import Tick, default_budget
from pilotfish.engine.scorer import PassFilter, Receipt, ShardScorer
from pilotfish.errors import DiskError, PilotfishError, UsageError
from pilotfish.models import Loaded, load
from pilotfish.records import Need
from pilotfish.store import Store

TRIES = 3  # times a shard is started before it is given up
LOST = 3  # shards given up after which no more are started


@dataclass(frozen=True)
class ScoreSpec:
    """Everything that decides what a worker measures, in plain values that can be pickled."""

    root: str  # the run folder, on a disk that every worker sees
    model: str  # a folder or a hub id, as the worker loads it
    digest: str  # of that model: a worker that loads another one refuses to measure
    needs: tuple[Need, ...]
    max_length: int  # tokens of a row that the model reads
    precision: str = "auto"
    token_budget: int | None = None  # tokens per forward pass; None: the default of the device
    device: str | None = None  # None: the best one
    threads: int = 1  # CPU threads of a forward pass: sums are split by it, so bits depend on it
    trust_remote_code: bool = False  # as the command that started the workers was given it
    only: str | None = None  # a committed table of the run, no ending: `scored` marks its rows


def load_model(spec: ScoreSpec) -> Loaded:
    """Load the model of a worker and set its CPU threads.

    Raises:
        UsageError: The files are another model than the one the run was planned for.
    """
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
    """Open the run's pool with the model of a worker, `loaded` or loaded now.

    Raises:
        UsageError: This machine does not see the run folder, or the model is another one.
    """
    store = Store(Path(spec.root))
    if not store.path("run.json").is_file():
        raise UsageError(
            f"a worker does not see the run folder {spec.root}",
            hint="put --out on a disk that all workers share",
        )
    loaded = loaded or load_model(spec)
    torch.set_num_threads(spec.threads)
    only = None
    if spec.only is not None:
        store.require(f"{spec.only}.json")
        table = pq.read_table(store.path(f"{spec.only}.parquet"), columns=["scored"])
        rows = table["scored"].to_numpy()
        only = PassFilter(rows, hashlib.sha256(rows.tobytes()).hexdigest())
    return ShardScorer(
        Pool.open(store),
        spec.needs,
        loaded,
        store,
        max_length=spec.max_length,
        token_budget=spec.token_budget,
        only=only,
    )


class WorkerInfo(NamedTuple):
    """How a worker measures. It must be the same for all workers of a run."""

    keys: dict[Need, str]  # cache key of each need
    device: str
    precision: str
    token_budget: int
    threads: int | None  # None on a device whose bits do not depend on it
    specs: dict[str, dict[str, Any]]  # name of each need -> the facts that its key is the hash of

    @classmethod
    def of(cls, spec: ScoreSpec, loaded: Loaded, scorer: ShardScorer) -> "WorkerInfo":
        """Describe a scorer that has been opened with `loaded`."""
        budget = spec.token_budget or default_budget(loaded.device)
        device = loaded.device.type
        threads = spec.threads if device == "cpu" else None
        return cls(scorer.keys, device, loaded.precision, budget, threads, scorer.specs)


class WorkerFailure(NamedTuple):
    """An error of a worker in plain values: some exceptions cannot be pickled and read back."""

    message: str
    hint: str | None = None
    exit_code: int | None = None  # of an error raised on purpose, which trying again cannot help

    @classmethod
    def of(cls, error: Exception) -> "WorkerFailure":
        """Describe any error."""
        known = error if isinstance(error, PilotfishError) else DiskError.of(error)
        if known is not None:
            return cls(str(known), known.hint, known.exit_code)
        last = traceback.extract_tb(error.__traceback__)[-1:]
        where = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in last)
        return cls(f"{type(error).__name__}: {error}{where}")

    def to_error(self) -> PilotfishError:
        """Return an error to raise in this process, with the exit code it had in the worker."""
        error = PilotfishError(self.message, hint=self.hint)
        error.exit_code = self.exit_code or 1
        return error


class RetryTracker:
    """Counts how often each shard failed, and gives up a shard after TRIES failures."""

    def __init__(self) -> None:
        self._failed: dict[int, int] = {}
        self.lost: dict[int, str] = {}  # shard given up -> message of its last failure

    def again(self, shard: int, failure: WorkerFailure) -> bool:
        """Count a failure and return whether to start the shard once more.

        Raises:
            PilotfishError: The error was raised on purpose, or too many shards are lost.
        """
        if failure.exit_code is not None:
            raise failure.to_error()
        self._failed[shard] = self._failed.get(shard, 0) + 1
        if self._failed[shard] < TRIES:
            return True
        self.lost[shard] = failure.message
        if len(self.lost) >= LOST:
            self.raise_if_lost()
        return False

    def raise_if_lost(self) -> None:
        """Raise PilotfishError (exit 1), naming the shards that were given up, if there are any."""
        if self.lost:
            shard, message = next(iter(self.lost.items()))
            named = ", ".join(map(str, sorted(self.lost)))
            raise PilotfishError(
                f"shard {named} failed {TRIES} times; the last error of shard {shard}: {message}",
                hint="the other shards are kept: the same command again tries only what is missing",
            )


def score_in_order(
    scorer: ShardScorer, shards: Iterable[int], retries: RetryTracker, tick: Tick | None = None
) -> Iterator[Receipt]:
    """Measure shards in this process, in order; a shard that fails is started again.

    Args:
        scorer: Measures a shard.
        shards: Shard numbers; one is read ahead while the model is busy with another.
        retries: Counts failures; `retries.lost` holds the shards that were given up.
        tick: Called with the number of rows after each batch.

    Yields:
        The receipt of each shard that was measured.

    Raises:
        PilotfishError: An error that pilotfish raised on purpose, or too many shards failed.
    """
    source, again = iter(shards), deque[int]()
    taken = deque[int]()  # handed to the scorer and not finished

    def numbers() -> Iterator[int]:
        while (shard := again.popleft() if again else next(source, None)) is not None:
            taken.append(shard)
            yield shard

    finished = False
    while not finished:
        try:
            for receipt in scorer.over(numbers(), tick):
                taken.popleft()
                yield receipt
            finished = True
        except PilotfishError:
            raise
        except Exception as error:
            if not taken:
                raise
            failed = taken.popleft()
            retry = [failed] if retries.again(failed, WorkerFailure.of(error)) else []
            again.extend([*retry, *taken])
            taken.clear()


class Worker:
    """A scorer in a process of its own, which reads the next shard while it measures one.

    It returns errors as WorkerFailure and raises none. After a failure it has to be replaced:
    what broke a shard may have broken the device.
    """

    def __init__(self, spec: ScoreSpec) -> None:
        self._spec = spec
        self._scorer: ShardScorer | None = None
        self._numbers: SimpleQueue[int | None] = SimpleQueue()
        self._receipts: Iterator[Receipt] = iter(())
        self._promised: int | None = None

    def open(self) -> WorkerInfo | WorkerFailure:
        """Load the model and return how this worker measures."""
        try:
            loaded = load_model(self._spec)
            self._scorer = open_scorer(self._spec, loaded)
            return WorkerInfo.of(self._spec, loaded, self._scorer)
        except Exception as error:
            return WorkerFailure.of(error)

    def score(self, shard: int, then: int | None = None) -> Receipt | WorkerFailure:
        """Measure what is missing of a shard; `then` is read ahead, to be requested next."""
        try:
            assert self._scorer is not None, "call open() first"
            if shard != self._promised:
                self._numbers = SimpleQueue()
                self._numbers.put(shard)
                self._receipts = self._scorer.over(iter(self._numbers.get, None))
            self._numbers.put(then)
            self._promised = then
            return next(self._receipts)
        except Exception as error:
            return WorkerFailure.of(error)
