"""One worker: a shard number in, a receipt or the trouble out; knows no executor."""

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, NamedTuple

from pilotfish.engine.batches import default_budget
from pilotfish.engine.executors.spec import ScoreSpec, load_for, open_scorer
from pilotfish.engine.executors.trouble import Trouble
from pilotfish.engine.scorer import Receipt, ShardScorer
from pilotfish.models import Loaded
from pilotfish.records import Need


class Opened(NamedTuple):
    """A worker's first word: what it will measure, and how; it must be the same for all."""

    keys: dict[Need, str]
    device: str
    precision: str
    token_budget: int
    threads: int | None  # where bits depend on it
    specs: dict[str, dict[str, Any]]  # need's name -> what its key is the hash of

    @classmethod
    def of(cls, spec: ScoreSpec, loaded: Loaded, scorer: ShardScorer) -> "Opened":
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

    def open(self) -> Opened | Trouble:
        """Load the model and find out what is to be measured."""
        try:
            loaded = load_for(self._spec)
            self._scorer = open_scorer(self._spec, loaded)
            return Opened.of(self._spec, loaded, self._scorer)
        except Exception as error:
            return Trouble.of(error)

    def score(self, shard: int, then: int | None = None) -> Receipt | Trouble:
        """Measure what is missing of a shard; `then` is the one that will be asked for next."""
        try:
            return self._next(shard, then)
        except Exception as error:
            return Trouble.of(error)

    def _next(self, shard: int, then: int | None) -> Receipt:
        assert self._scorer is not None, "open() comes first"
        if shard != self._promised:
            self._numbers = SimpleQueue()
            self._numbers.put(shard)
            self._receipts = self._scorer.over(iter(self._numbers.get, None))
        self._numbers.put(then)
        self._promised = then
        return next(self._receipts)
