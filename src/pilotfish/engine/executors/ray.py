"""The Ray executor: a pool of actors that measure shards.

Only shard numbers and receipts travel through Ray; the scores are written to the run folder.
"""

import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from pilotfish.engine.executors.pool import Message
from pilotfish.engine.executors.worker import ScoreSpec, Worker, WorkerFailure
from pilotfish.errors import Interrupted, MissingExtra, UsageError

MEMORY = 128 * 2**20  # bytes of Ray's object store: pilotfish sends only small numbers through it
LEAST_CPUS = 4  # logical CPUs of a local Ray; with fewer, Ray's own helper processes starve

# A local Ray is private: it listens on the loopback only (on Linux under the name of a switch for
# other systems), requires a token, and reports no usage. Its workers run at the niceness of this
# process: at Ray's default of 15, one busy process makes scoring take many times as long.
_PRIVATE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
}


class Actors:
    """A pool of Ray actors.

    Args:
        ray: The imported library, connected to a cluster.
        spec: How each actor measures; `spec.threads` CPUs are reserved for it.
        seats: How many actors there may be.
        gpus: GPUs reserved for each actor, 0 or 1.
    """

    def __init__(self, ray: Any, spec: ScoreSpec, seats: int, gpus: int) -> None:
        self._ray, self._spec, self._seats = ray, spec, seats
        # The scheduler replaces a failed actor; Ray must not restart it as well.
        self._kind = ray.remote(Worker).options(
            num_cpus=spec.threads, num_gpus=gpus, max_restarts=0, max_task_retries=0
        )
        self._actors: dict[int, Any] = {}
        self._pending: dict[Any, int] = {}  # future result -> the seat that computes it

    @property
    def seats(self) -> int:
        """How many actors there may be."""
        return self._seats

    def start_worker(self, seat: int) -> None:
        """Start an actor as soon as the cluster has room for it."""
        self._actors[seat] = actor = self._kind.remote(self._spec)
        self._pending[actor.open.remote()] = seat

    def stop_worker(self, seat: int) -> None:
        """Kill the actor of a seat."""
        self._pending = {result: of for result, of in self._pending.items() if of != seat}
        self._ray.kill(self._actors.pop(seat), no_restart=True)

    def stop_all(self) -> None:
        """Kill them all."""
        for seat in list(self._actors):
            self.stop_worker(seat)

    def send(self, seat: int, shard: int, then: int | None) -> None:
        """Start measuring a shard on the actor of a seat; `then` is the shard to prepare next."""
        self._pending[self._actors[seat].score.remote(shard, then)] = seat

    def receive(self) -> tuple[int, Message]:
        """Wait for the next result of any actor, and return its seat and the result."""
        ready: list[Any] = []
        while not ready:  # a wait without a timeout would not let Ctrl-C through
            ready, _ = self._ray.wait(list(self._pending), timeout=1)
        seat = self._pending.pop(ready[0])
        try:
            result: Message = self._ray.get(ready[0])
        except self._ray.exceptions.RayError as error:
            first = (str(error).strip() or "died").splitlines()[0]
            return seat, WorkerFailure(f"its Ray actor is gone: {type(error).__name__}: {first}")
        return seat, result


@contextmanager
def ray_workers(spec: ScoreSpec, workers: int | None) -> Iterator[Actors]:
    """Start actors on a running Ray, the cluster of RAY_ADDRESS, or a private Ray of this machine.

    A private Ray ends with the context; a Ray that was running before is left running.

    Args:
        spec: How each actor measures.
        workers: How many actors; None: one per GPU, or without GPUs as many as the CPUs allow.

    Raises:
        MissingExtra: Ray is not installed.
        UsageError: No node has enough CPUs for a worker.
    """
    with _interruptible(), _connected(spec, workers) as (ray, own):
        largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes())
        if largest < spec.threads:
            raise UsageError(
                f"a worker needs {spec.threads} CPUs, and no node of the cluster has more than "
                f"{largest}",
                hint=f"set OMP_NUM_THREADS={max(largest, 1)} and score into another --out",
            )
        found = ray.cluster_resources()
        gpus = int(found.get("GPU", 0))
        # a private Ray is started with more logical CPUs than the machine has
        cpus = (os.cpu_count() or 1) if own else int(found.get("CPU", 1))
        actors = Actors(ray, spec, workers or max(gpus or cpus // spec.threads, 1), min(gpus, 1))
        try:
            yield actors
        finally:
            actors.stop_all()


@contextmanager
def _connected(spec: ScoreSpec, workers: int | None) -> Iterator[tuple[Any, bool]]:
    """Yield the connected library, and whether it runs a private Ray of this machine."""
    running: Any = sys.modules.get("ray")
    if running is not None and running.is_initialized():
        yield running, False  # the caller started it, and ends it
        return
    own = not os.environ.get("RAY_ADDRESS")
    with _environment(_private_settings() if own else {}):
        try:
            import ray
        except ModuleNotFoundError as error:
            raise MissingExtra("--executor ray", "ray") from error
        cpus = max(LEAST_CPUS, os.cpu_count() or 1, (workers or 1) * spec.threads)
        started = {
            "address": "local",
            "num_cpus": cpus,
            "object_store_memory": MEMORY,
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
        }
        sigterm = signal.getsignal(signal.SIGTERM)
        ray.init(**(started if own else {}), logging_level="error", log_to_driver=False)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, sigterm)  # ray.init replaces the handler
        try:
            yield ray, own
        finally:
            ray.shutdown()


@cache
def _private_settings() -> dict[str, str]:
    """Return the environment of a private Ray, with one token per process.

    Ray reads these settings once, when it is imported.
    """
    if "ray" in sys.modules and sys.modules["ray"] is not None:
        raise UsageError(
            "ray was imported before pilotfish could start a private one",
            hint="call ray.init() yourself first: a running Ray is used as it is",
        )
    return {**_PRIVATE, "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables inside the context, for Ray and the processes it starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise the Ctrl-C that Ray's compiled code wraps in a SystemError."""
    try:
        yield
    except SystemError as error:
        if isinstance(error.__cause__, (Interrupted, KeyboardInterrupt)):
            raise error.__cause__ from None
        raise
