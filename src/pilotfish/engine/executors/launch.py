"""Choose who measures the shards of a run: this process, several, a Ray cluster, or equal ranks."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
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
    """Who measures. It changes no score."""

    executor: str = "local"  # local, ray or ranks
    workers: int | None = None  # processes of this machine, or Ray actors; None: one per GPU
    rank: int | None = None  # which of the ranks this is; None: as torchrun or Slurm number it
    world: int | None = None  # how many ranks there are; None: as torchrun or Slurm count them

    def processes(self, weak: "Loaded") -> int:
        """Return how many processes share the cores of this machine."""
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


def passes(needs: Sequence[Need]) -> int:
    """Return how often the model reads each row: needs of one text form and condition share one."""
    from pilotfish.engine.scorer import LENGTHS

    return len({(need.text, need.given) for need in needs if need != LENGTHS})


class ShardProgress:
    """Reports how far the measuring is, in rows x forward passes, whichever shards come first."""

    def __init__(self, pool: "Pool", spec: "ScoreSpec", progress: Progress) -> None:
        self._pool, self._progress = pool, progress
        self._passes = max(1, passes(spec.needs))  # token counts alone count as one
        self._finished = self._inside = 0

    def tick(self, rows: int) -> None:
        """Report `rows` more rows of the shard at work."""
        self._inside += rows
        self._report()

    def shard_done(self, receipt: "Receipt") -> None:
        """Report a finished shard."""
        start, stop = self._pool.bounds(receipt.shard)
        self._finished += (stop - start) * self._passes
        self._inside = 0
        self._report()

    def each(self, receipts: "Iterable[Receipt]") -> "Iterator[Receipt]":
        """Yield receipts, reporting each."""
        for receipt in receipts:
            self.shard_done(receipt)
            yield receipt

    def _report(self) -> None:
        total = len(self._pool) * self._passes
        self._progress.step("measure", min(self._finished + self._inside, total), total)


@contextmanager
def score_shards(
    pool: "Pool", weak: "Loaded", spec: "ScoreSpec", executor: ExecutorConfig, progress: Progress
) -> "Iterator[tuple[WorkerInfo, Iterator[Receipt]]]":
    """Measure every shard by the local or the Ray executor; finished shards are kept.

    Nothing is measured before the receipts are read. Leaving the context stops every worker.

    Args:
        pool: The rows.
        weak: The model, as it is loaded in this process.
        spec: What each worker measures.
        executor: Who measures.
        progress: Receives the rows that are done.

    Yields:
        How the workers measure, and the receipts of all shards as they are finished.

    Raises:
        PilotfishError: A shard failed too often, or a worker cannot measure.
    """
    report = ShardProgress(pool, spec, progress)
    workers: AbstractContextManager[WorkerPool]
    if executor.executor == "ray":
        from pilotfish.engine.executors.ray import ray_workers

        workers = ray_workers(spec, executor.workers)
    else:
        specs = local_specs(weak, spec, executor.processes(weak))
        if len(specs) == 1:
            from pilotfish.engine.executors import worker

            with threads_of(spec):
                scorer, retries = worker.open_scorer(spec, weak), worker.RetryTracker()
                info = worker.WorkerInfo.of(spec, weak, scorer)
                shards = range(pool.shards)
                receipts = worker.score_in_order(scorer, shards, retries, report.tick)
                yield info, report.each(receipts)
                retries.raise_if_lost()
            return
        from pilotfish.engine.executors.pool import Processes

        workers = Processes(specs)
    from pilotfish.engine.executors.pool import Scheduler

    with workers as running:
        progress.note(f"measuring with {min(running.seats, pool.shards)} workers")
        scheduler = Scheduler(running, range(pool.shards))
        yield scheduler.start(), report.each(scheduler.receipts())
    sweep_if_idle(pool.store)  # a worker that was killed left its temp files


def local_specs(weak: "Loaded", spec: "ScoreSpec", count: int) -> "list[ScoreSpec]":
    """Return one spec for each of `count` processes: on a GPU of its own, or sharing the cores."""
    import torch

    if weak.device.type != "cuda":
        return [spec] * count
    gpus = torch.cuda.device_count()
    return [replace(spec, device=f"cuda:{seat % gpus}") for seat in range(count)]


@contextmanager
def threads_of(spec: "ScoreSpec") -> Iterator[None]:
    """Set torch to the spec's CPU threads inside the context, and restore them afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(spec.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
