"""How the shards of one measurement are spread: this process, several, a Ray cluster, or ranks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pilotfish.errors import UsageError, unknown_name
from pilotfish.progress import Progress
from pilotfish.records import Need
from pilotfish.store import sweep_if_idle

if TYPE_CHECKING:
    from pilotfish.data import Pool
    from pilotfish.engine.executors.pool import WorkerPool
    from pilotfish.engine.executors.worker import ScoreSpec, WorkerInfo
    from pilotfish.engine.scorer import Receipt
    from pilotfish.models import Loaded

EXECUTORS = ("local", "ray", "ranks")


@dataclass(frozen=True)
class ExecutorConfig:
    """Who measures. `rank` and `world` left out are asked of torchrun or Slurm."""

    executor: str = "local"
    workers: int | None = None  # processes of this machine, or Ray actors
    rank: int | None = None
    world: int | None = None

    def processes(self, weak: "Loaded") -> int:
        """How many processes share the cores of this machine."""
        import torch

        gpus = torch.cuda.device_count() if weak.device.type == "cuda" else 0
        return self.workers or (gpus if self.executor == "local" else 0) or 1

    def check(self) -> None:
        """Raise UsageError for options that contradict each other, before anything is spent."""
        if self.executor not in EXECUTORS:
            raise unknown_name("executor", self.executor, EXECUTORS)
        if self.executor != "ranks" and (self.rank, self.world) != (None, None):
            raise UsageError(
                f"--rank and --world number equal commands; --executor {self.executor} has one",
                hint="add --executor ranks, or leave them out",
            )
        if self.executor == "ranks":
            from pilotfish.engine.executors.ranks import parse_rank

            parse_rank(self.rank, self.world)
            if self.workers is not None:
                raise UsageError(
                    "--workers: a rank is one process",
                    hint="start more ranks, or leave --executor ranks out",
                )


LOCAL = ExecutorConfig()


@dataclass(frozen=True)
class ScoreJob:
    """What is to be measured, and by which model as it was loaded here."""

    pool: "Pool"
    weak: "Loaded"
    spec: "ScoreSpec"

    @property
    def passes(self) -> int:
        """How many times the model reads every row, token counts alone counting as once."""
        return max(1, passes(self.spec.needs))


def passes_paid(receipt: "Receipt", keys: Mapping[Need, str]) -> int:
    """Forward passes that a receipt is for: what was intact costs nothing again."""
    return passes([need for need, key in keys.items() if key in receipt.measured])


def passes(needs: Sequence[Need]) -> int:
    """Forward passes over a row; needs of one text form and condition share one."""
    from pilotfish.engine.scorer import LENGTHS

    return len({(need.text, need.given) for need in needs if need != LENGTHS})


def score_shards(
    work: ScoreJob,
    spread: ExecutorConfig,
    say: Progress,
    check: "Callable[[WorkerInfo], None]",
    hear: "Callable[[Receipt], None]",
) -> "WorkerInfo":
    """Measure every shard by the local or the Ray executor; finished shards are kept.

    check: told what a worker measures with as soon as one is open; what it raises ends the work.
    hear: told of every shard as it is finished.
    """
    told = ShardProgress(work, say, hear)
    if spread.executor == "ray":
        from pilotfish.engine.executors.ray import ray_workers

        with ray_workers(work.spec, spread.workers) as crew:
            opened = _crewed(work, crew, told, check)
        sweep_if_idle(work.pool.store)  # an actor that was killed left its temp files
        return opened
    specs = _desks(work, spread.processes(work.weak))
    if len(specs) == 1:
        return _alone(work, told, check)
    from pilotfish.engine.executors.local import Processes

    with Processes(specs) as processes:
        opened = _crewed(work, processes, told, check)
    sweep_if_idle(work.pool.store)
    return opened


def _desks(work: ScoreJob, count: int) -> "list[ScoreSpec]":
    """One spec per local process: each on a GPU of its own, or with its share of the cores."""
    import torch

    if work.weak.device.type != "cuda":
        return [work.spec] * count
    gpus = torch.cuda.device_count()
    return [replace(work.spec, device=f"cuda:{seat % gpus}") for seat in range(count)]


def _alone(
    work: ScoreJob, told: "ShardProgress", check: "Callable[[WorkerInfo], None]"
) -> "WorkerInfo":
    from pilotfish.engine.executors.failures import RetryTracker
    from pilotfish.engine.executors.local import loop
    from pilotfish.engine.executors.worker import WorkerInfo, open_scorer

    with threads_of(work.spec):
        scorer, tries = open_scorer(work.spec, work.weak), RetryTracker()
        opened = WorkerInfo.of(work.spec, work.weak, scorer)
        check(opened)
        for receipt in loop(scorer, range(work.pool.shards), tries, told.tick):
            told.after(receipt)
        tries.settle()
        return opened


def _crewed(
    work: ScoreJob, crew: "WorkerPool", told: "ShardProgress", check: "Callable[[WorkerInfo], None]"
) -> "WorkerInfo":
    from pilotfish.engine.executors.pool import Scheduler

    shift = Scheduler(crew, range(work.pool.shards), check)
    told.say.note(f"measuring with {min(crew.seats, work.pool.shards)} workers")
    for receipt in shift.receipts():
        told.after(receipt)
    assert shift.opened is not None  # a receipt comes after it, and no pool is empty
    return shift.opened


class ShardProgress:
    """Says how far the measuring is, whichever shards come first, and tells of each."""

    def __init__(self, work: ScoreJob, say: Progress, hear: "Callable[[Receipt], None]") -> None:
        self._work, self.say, self._hear = work, say, hear
        self._finished = self._inside = 0
        self._total = len(work.pool) * work.passes

    def tick(self, rows: int) -> None:
        """So many rows more of the shard at work were read."""
        self._inside += rows
        self._step()

    def after(self, receipt: "Receipt") -> None:
        """A shard is finished."""
        start, stop = self._work.pool.bounds(receipt.shard)
        self._finished += (stop - start) * self._work.passes
        self._inside = 0
        self._step()
        self._hear(receipt)

    def _step(self) -> None:
        self.say.step("measure", min(self._finished + self._inside, self._total), self._total)


@contextmanager
def threads_of(spec: "ScoreSpec") -> Iterator[None]:
    """The plan's CPU threads inside, those of before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(spec.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
