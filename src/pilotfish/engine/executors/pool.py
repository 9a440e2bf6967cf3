"""A pool of workers: shards are handed out to processes of this machine or to Ray actors."""

import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import NoReturn, Protocol

from pilotfish.engine.executors.worker import (
    RetryTracker,
    ScoreSpec,
    Worker,
    WorkerFailure,
    WorkerInfo,
)
from pilotfish.engine.scorer import Receipt
from pilotfish.errors import Interrupted, UsageError

STOP_SECONDS = 3.0  # a worker has so long to remove its temp files

Message = WorkerInfo | Receipt | WorkerFailure


class WorkerPool(Protocol):
    """Seats for workers. A worker's first message is its WorkerInfo, then one answer per `send`."""

    @property
    def seats(self) -> int:
        """The largest number of workers."""
        ...

    def start_worker(self, seat: int) -> None:
        """Start a worker on a seat."""
        ...

    def stop_worker(self, seat: int) -> None:
        """Stop the worker of a seat at once."""
        ...

    def send(self, seat: int, shard: int, then: int | None) -> None:
        """Request a shard from the worker of a seat; it may read `then` ahead."""
        ...

    def receive(self) -> tuple[int, Message]:
        """Wait for the next message of any worker; a dead worker's is a WorkerFailure."""
        ...


class Scheduler:
    """Hands the shards of one pool to the workers, and replaces workers that fail.

    Call `start` once, then iterate over `receipts`.
    """

    def __init__(self, workers: WorkerPool, shards: Sequence[int]) -> None:
        self._workers = workers
        self._waiting = deque(shards)
        # seat -> the shard at work and the one after it
        self._assigned: dict[int, list[int]] = {}
        self._free: set[int] = set()  # seats that wait for work
        self._retries = RetryTracker()
        self._failed_starts = RetryTracker()
        self._info: WorkerInfo | None = None  # of every worker

    def start(self) -> WorkerInfo:
        """Start the workers and return how they measure, as soon as the first one is ready.

        No worker measures before `receipts` is called.

        Raises:
            PilotfishError: No worker could be started.
        """
        for seat in range(min(self._workers.seats, len(self._waiting))):
            self._start_worker(seat)
        while self._info is None:
            self._receive()
        return self._info

    def receipts(self) -> Iterator[Receipt]:
        """Yield the receipts of all shards, as they come.

        Raises:
            PilotfishError: A shard failed TRIES times, or a worker raised an error on purpose (a
                damaged file, a full disk), which keeps its exit code.
            UsageError: Two workers would measure differently.
        """
        self._assign()
        while self._waiting or any(self._assigned.values()):
            receipt = self._receive()
            if receipt is not None:
                yield receipt
            self._assign()
        self._retries.raise_if_lost()

    def _start_worker(self, seat: int) -> None:
        self._assigned[seat] = []
        self._workers.start_worker(seat)

    def _receive(self) -> Receipt | None:
        """Wait for one message of any worker; return it if it is a receipt."""
        seat, message = self._workers.receive()
        if isinstance(message, WorkerFailure):
            self._replace_worker(seat, message)
            return None
        self._free.add(seat)
        if isinstance(message, Receipt):
            self._assigned[seat].pop(0)
            return message
        self._info = self._info or message
        if message != self._info:
            raise UsageError(
                "the workers would not measure alike: their devices, precisions or versions differ",
                hint="give every worker the same kind of device and the same packages",
            )
        return None

    def _assign(self) -> None:
        """Give every free seat a shard, and the one after it."""
        for seat in sorted(self._free):
            assigned = self._assigned[seat]
            if not assigned and self._waiting:
                assigned.append(self._waiting.popleft())
            # the last shards are left to whoever is free first
            if len(assigned) == 1 and len(self._waiting) >= len(self._assigned):
                assigned.append(self._waiting.popleft())
            if assigned:
                self._free.remove(seat)
                self._workers.send(seat, assigned[0], assigned[1] if len(assigned) > 1 else None)

    def _replace_worker(self, seat: int, failure: WorkerFailure) -> None:
        self._workers.stop_worker(seat)
        self._free.discard(seat)
        assigned = self._assigned.pop(seat)
        if not assigned:  # it failed before its first shard
            if not self._failed_starts.again(-1, failure):
                raise failure.to_error()
        else:
            self._waiting.extendleft(assigned[1:])
            if self._retries.again(assigned[0], failure):
                self._waiting.append(assigned[0])
        if self._waiting:
            self._start_worker(seat)


class Processes:
    """A pool of processes on this machine, one per spec; a context manager that stops them all."""

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
        """Start the process of a seat, with Ctrl-C blocked in it.

        Ctrl-C reaches every process of a terminal; this one alone answers it, and stops the others.
        """
        here, there = self._spawn.Pipe()
        process = self._spawn.Process(
            target=serve, args=(there, self._specs[seat]), daemon=True, name=f"worker-{seat}"
        )
        # started while the signal is blocked, the tracker would unblock it in the worker
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        there.close()
        self._running[seat] = process, here

    def stop_worker(self, seat: int) -> None:
        """Terminate the process of a seat, and kill it if it does not end in time."""
        process, pipe = self._running.pop(seat)
        pipe.close()
        process.terminate()
        process.join(STOP_SECONDS)
        process.kill()
        process.join()
        process.close()

    def send(self, seat: int, shard: int, then: int | None) -> None:
        """Request a shard from a process; `receive` reports a dead one."""
        with suppress(BrokenPipeError):
            self._running[seat][1].send((shard, then))

    def receive(self) -> tuple[int, Message]:
        """Wait for the next message of any process."""
        pipes = {pipe: seat for seat, (_, pipe) in self._running.items()}
        pipe = wait(list(pipes))[0]
        assert isinstance(pipe, Connection)
        seat = pipes[pipe]
        try:
            return seat, pipe.recv()
        except (EOFError, ConnectionError):
            process = self._running[seat][0]
            process.join(STOP_SECONDS)
            code = process.exitcode or 0
        if code < 0:
            why = ", often for lack of memory" if -code == signal.SIGKILL else ""
            ended = f"its worker was ended by {signal.Signals(-code).name}{why}"
            return seat, WorkerFailure(ended)
        return seat, WorkerFailure(f"its worker ended with exit code {code}")


def serve(pipe: Connection, spec: ScoreSpec) -> None:
    """Answer (shard, then) requests until the pipe closes, as it does when the parent dies."""
    signal.signal(signal.SIGTERM, _stop)
    os.environ["RAYON_NUM_THREADS"] = str(spec.threads)
    worker = Worker(spec)
    try:
        pipe.send(worker.open())
        while True:
            pipe.send(worker.score(*pipe.recv()))
    except (EOFError, ConnectionError, Interrupted):
        return


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    # a second signal must not interrupt the cleaning up that the first one starts
    signal.signal(signum, signal.SIG_IGN)
    raise Interrupted(signum)
