"""Ray: a pool of actors; only shard numbers and receipts cross it, so there is nothing to spill."""

import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from pilotfish.engine.executors.failures import WorkerFailure
from pilotfish.engine.executors.pool import Said
from pilotfish.engine.executors.worker import ScoreSpec, Worker
from pilotfish.errors import Interrupted, MissingExtra, UsageError

MEMORY = 128 * 2**20  # bytes of Ray's store of objects: ours are numbers
LEAST_CPUS = 4  # logical ones of a Ray started here; with fewer its own helpers have starved

# A Ray of our own answers nobody but us: it listens on the loopback alone (Linux has to be told
# by the name of the other systems), wants a password, and reports to nobody. Its workers are as
# nice as any other process: at Ray's 15, one busy neighbour makes scoring take many times as long.
_ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
}


class Actors:
    """A crew of Ray actors, `seats` of them, each with the CPUs (and GPU) its spec asks for."""

    def __init__(self, ray: Any, spec: ScoreSpec, seats: int, gpus: int) -> None:
        self._ray, self._spec, self._seats = ray, spec, seats
        # a failed actor is replaced by us, whole, not restarted by Ray behind our back
        self._kind = ray.remote(Worker).options(
            num_cpus=spec.threads, num_gpus=gpus, max_restarts=0, max_task_retries=0
        )
        self._actors: dict[int, Any] = {}
        self._asked: dict[Any, int] = {}  # an answer to come -> the seat it comes from

    @property
    def seats(self) -> int:
        """How many actors there may be."""
        return self._seats

    def start_worker(self, seat: int) -> None:
        """Start an actor as soon as the cluster has room for it."""
        self._actors[seat] = actor = self._kind.remote(self._spec)
        self._asked[actor.open.remote()] = seat

    def stop_worker(self, seat: int) -> None:
        """Kill the actor of a seat."""
        self._asked = {answer: of for answer, of in self._asked.items() if of != seat}
        self._ray.kill(self._actors.pop(seat), no_restart=True)

    def stop_all(self) -> None:
        """Kill them all."""
        for seat in list(self._actors):
            self.stop_worker(seat)

    def send(self, seat: int, shard: int, then: int | None) -> None:
        """Ask an actor for a shard."""
        self._asked[self._actors[seat].score.remote(shard, then)] = seat

    def receive(self) -> tuple[int, Said]:
        """The next word of any actor."""
        answered: list[Any] = []
        while not answered:  # a wait without end would not let Ctrl-C through
            answered, _ = self._ray.wait(list(self._asked), timeout=1)
        seat = self._asked.pop(answered[0])
        try:
            said: Said = self._ray.get(answered[0])
        except self._ray.exceptions.RayError as error:
            first = (str(error).strip() or "died").splitlines()[0]
            return seat, WorkerFailure(f"its Ray actor is gone: {type(error).__name__}: {first}")
        return seat, said


@contextmanager
def ray_workers(spec: ScoreSpec, workers: int | None) -> Iterator[Actors]:
    """Actors on the cluster RAY_ADDRESS names, else on a Ray of this machine that ends with them.

    Without `workers`: one for each GPU, or where there is none as many as the CPUs have room for.
    Raises MissingExtra where Ray is not installed, UsageError where no node can hold a worker.
    """
    with _interruptible(), _connected(spec, workers) as (ray, own):
        largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes())
        if largest < spec.threads:
            raise UsageError(
                f"a worker wants {spec.threads} CPUs, and no node of the cluster has more than "
                f"{largest}",
                hint=f"set OMP_NUM_THREADS={max(largest, 1)} and score into another --out",
            )
        found = ray.cluster_resources()
        gpus = int(found.get("GPU", 0))
        # a Ray of our own was told of more CPUs than there are
        cpus = (os.cpu_count() or 1) if own else int(found.get("CPU", 1))
        crew = Actors(ray, spec, workers or max(gpus or cpus // spec.threads, 1), min(gpus, 1))
        try:
            yield crew
        finally:
            crew.stop_all()


@contextmanager
def _connected(spec: ScoreSpec, workers: int | None) -> Iterator[tuple[Any, bool]]:
    """Ray, and whether it is one of our own."""
    running: Any = sys.modules.get("ray")
    if running is not None and running.is_initialized():
        yield running, False  # whoever did that ends it too
        return
    own = not os.environ.get("RAY_ADDRESS")
    with _environment(_alone() if own else {}):
        ray = _ray()
        cpus = max(LEAST_CPUS, os.cpu_count() or 1, (workers or 1) * spec.threads)
        started = {
            "address": "local", "num_cpus": cpus, "object_store_memory": MEMORY,
            "include_dashboard": False, "_node_ip_address": "127.0.0.1",
        }  # fmt: skip
        with _our_signals():
            ray.init(**(started if own else {}), logging_level="error", log_to_driver=False)
        try:
            yield ray, own
        finally:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtra("--executor ray", "ray") from error
    return ray


@cache
def _alone() -> dict[str, str]:
    """How a Ray of our own is told to answer nobody else; its library reads it once, on import."""
    if "ray" in sys.modules and sys.modules["ray"] is not None:
        raise UsageError(
            "ray was imported before pilotfish could start one that answers nobody else",
            hint="call ray.init() yourself first: a Ray that runs is used as it is",
        )
    return {**_ALONE, "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables set inside, for Ray's library and for the processes it starts."""
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
    """Ctrl-C inside Ray's library comes out as an error of the interpreter; its cause is meant."""
    try:
        yield
    except SystemError as error:
        if isinstance(error.__cause__, (Interrupted, KeyboardInterrupt)):
            raise error.__cause__ from None
        raise


@contextmanager
def _our_signals() -> Iterator[None]:
    """SIGTERM stays ours: Ray takes it over when it starts."""
    ours = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ours)
