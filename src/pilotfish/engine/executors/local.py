"""Local: a loop in this process, or one process per device or share of the cores."""

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import NoReturn

from pilotfish.engine.batches import Tick
from pilotfish.engine.executors.failures import RetryTracker, WorkerFailure
from pilotfish.engine.executors.pool import Said
from pilotfish.engine.executors.worker import ScoreSpec, Worker
from pilotfish.engine.scorer import Receipt, ShardScorer
from pilotfish.errors import Interrupted, PilotfishError

PATIENCE = 3.0  # seconds a worker has to put its temp files away


def loop(
    scorer: ShardScorer, shards: Iterable[int], tries: RetryTracker, tick: Tick | None = None
) -> Iterator[Receipt]:
    """Receipts of shards measured here, in order; one that fails is taken once more from its start.

    What failed too often is left out: ask `tries`. Errors made on purpose are raised as they are.
    """
    source, again = iter(shards), deque[int]()
    taken = deque[int]()

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
            retry = [failed] if tries.again(failed, WorkerFailure.of(error)) else []
            again.extend([*retry, *taken])
            taken.clear()


class Processes:
    """A crew of processes on this machine, one per spec; a context manager that ends them all."""

    def __init__(self, specs: Sequence[ScoreSpec]) -> None:
        self._specs = specs
        self._spawn = get_context("spawn")  # a fork would copy torch's threads half alive
        self._running: dict[int, tuple[BaseProcess, Connection]] = {}

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for process, _pipe in self._running.values():
            process.terminate()
        for seat in list(self._running):
            self.stop_worker(seat)

    @property
    def seats(self) -> int:
        """One per spec."""
        return len(self._specs)

    def start_worker(self, seat: int) -> None:
        """Start the process of a seat."""
        here, there = self._spawn.Pipe()
        process = self._spawn.Process(
            target=serve, args=(there, self._specs[seat]), daemon=True, name=f"worker-{seat}"
        )
        with _deaf():
            process.start()
        there.close()
        self._running[seat] = process, here

    def stop_worker(self, seat: int) -> None:
        """End it: kindly, then for good."""
        process, pipe = self._running.pop(seat)
        pipe.close()
        process.terminate()
        process.join(PATIENCE)
        process.kill()
        process.join()
        process.close()

    def send(self, seat: int, shard: int, then: int | None) -> None:
        """Ask a process for a shard; of a dead one `hear` tells."""
        with suppress(BrokenPipeError):
            self._running[seat][1].send((shard, then))

    def receive(self) -> tuple[int, Said]:
        """The next word of any process."""
        pipes = {pipe: seat for seat, (_, pipe) in self._running.items()}
        pipe = wait(list(pipes))[0]
        assert isinstance(pipe, Connection)
        try:
            return pipes[pipe], pipe.recv()
        except (EOFError, ConnectionError):
            return pipes[pipe], self._death(pipes[pipe])

    def _death(self, seat: int) -> WorkerFailure:
        process = self._running[seat][0]
        process.join(PATIENCE)
        code = process.exitcode or 0
        if code < 0:
            often = ", often for want of memory" if -code == signal.SIGKILL else ""
            return WorkerFailure(f"its worker was ended by {signal.Signals(-code).name}{often}")
        return WorkerFailure(f"its worker ended with exit code {code}")


def serve(pipe: Connection, spec: ScoreSpec) -> None:
    """A worker process: answers until the pipe closes, as it does when its starter dies."""
    signal.signal(signal.SIGTERM, _stop)
    os.environ["RAYON_NUM_THREADS"] = str(spec.threads)
    worker = Worker(spec)
    try:
        pipe.send(worker.open())
        while True:
            pipe.send(worker.score(*pipe.recv()))
    except (EOFError, ConnectionError, Interrupted):
        return


@contextmanager
def _deaf() -> Iterator[None]:
    """What is started inside hears no Ctrl-C: it reaches all of a terminal's, one answers it."""
    resource_tracker.ensure_running()  # started inside, it would unblock the signal behind itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signum, signal.SIG_IGN)  # one is enough: what it began is putting things away
    raise Interrupted(signum)
