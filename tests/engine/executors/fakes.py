"""Scorers and pools without models or processes: what executors do with shards, and when."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pilotfish.engine.executors.pool import Message
from pilotfish.engine.executors.worker import WorkerFailure, WorkerInfo
from pilotfish.engine.scorer import Receipt
from pilotfish.records import Need

NEED = Need("nll")
OPENED = WorkerInfo({NEED: "key"}, "cpu", "float32", 64, 1, {})


class FakeScorer:
    """`over` as the real one pulls: one shard ahead of the one it measures."""

    def __init__(self, measure: Callable[[int], None] = lambda shard: None) -> None:
        self.keys = {NEED: "key"}
        self._measure = measure
        self.pulled: list[int] = []
        self.measured: list[int] = []

    def over(self, shards: Iterable[int], tick: Any = None) -> Iterator[Receipt]:
        waiting: int | None = None
        for shard in shards:
            self.pulled.append(shard)
            if waiting is not None:
                yield self._one(waiting)
            waiting = shard
        if waiting is not None:
            yield self._one(waiting)

    def _one(self, shard: int) -> Receipt:
        self._measure(shard)
        self.measured.append(shard)
        return Receipt(shard, 10, ("key",))


class FakePool:
    """Seats whose workers do as `act` says: measure a shard, or fail."""

    def __init__(self, seats: int, act: Callable[[int, int], Message], opened: Any = None) -> None:
        self.seats = seats
        self._act = act
        self._opened = opened or (lambda seat: OPENED)
        self._messages: deque[tuple[int, Message]] = deque()
        self.log: list[tuple[str, int]] = []
        self.sent: list[tuple[int, int, int | None]] = []

    def start_worker(self, seat: int) -> None:
        self.log.append(("start", seat))
        self._messages.append((seat, self._opened(seat)))

    def stop_worker(self, seat: int) -> None:
        self.log.append(("stop", seat))

    def send(self, seat: int, shard: int, then: int | None) -> None:
        self.sent.append((seat, shard, then))
        self._messages.append((seat, self._act(seat, shard)))

    def receive(self) -> tuple[int, Message]:
        return self._messages.popleft()


def succeed(seat: int, shard: int) -> Message:
    return Receipt(shard, 10, ("key",))


def fail_on(
    *shards: int, times: int = 99, exit_code: int | None = None
) -> Callable[[int, int], Message]:
    """Some shards fail, each so many times."""
    left = dict.fromkeys(shards, times)

    def act(seat: int, shard: int) -> Message:
        if left.get(shard, 0) == 0:
            return succeed(seat, shard)
        left[shard] -= 1
        return WorkerFailure(f"no luck with {shard}", None, exit_code)

    return act
