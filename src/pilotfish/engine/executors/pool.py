"""Hands shards to a crew of workers, each a process of its own, and replaces those that fail."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from pilotfish.engine.executors.failures import RetryTracker, WorkerFailure, raised
from pilotfish.engine.executors.worker import WorkerInfo
from pilotfish.engine.scorer import Receipt
from pilotfish.errors import UsageError

Said = WorkerInfo | Receipt | WorkerFailure


class WorkerPool(Protocol):
    """Seats for workers. A worker's first word is Opened; then it answers each `send`."""

    @property
    def seats(self) -> int:
        """How many workers there may be."""
        ...

    def start_worker(self, seat: int) -> None:
        """Start a worker on a seat."""
        ...

    def stop_worker(self, seat: int) -> None:
        """End the worker of a seat, at once."""
        ...

    def send(self, seat: int, shard: int, then: int | None) -> None:
        """Ask for a shard; the seat's worker may read `then` meanwhile."""
        ...

    def receive(self) -> tuple[int, Said]:
        """The next word of any worker; a dead one's is Trouble."""
        ...


class Scheduler:
    """One pool measured by one crew: who has what in hand, what waits, what failed.

    check: hears what the first worker opened, before any measures; what it raises ends the shift.
    """

    def __init__(
        self,
        crew: WorkerPool,
        shards: Sequence[int],
        check: Callable[[WorkerInfo], None] | None = None,
    ) -> None:
        self._crew = crew
        self._check = check
        self._waiting = deque(shards)
        self._hands: dict[int, list[int]] = {}  # seat -> shards: the one at work, the one after it
        self._free: set[int] = set()  # seats that wait for work
        self._tries = RetryTracker()
        self._stillborn = RetryTracker()
        self.opened: WorkerInfo | None = None  # what all of them measure

    def receipts(self) -> Iterator[Receipt]:
        """Receipts of all shards, as they come. Raises PilotfishError where some failed for good.

        Errors made on purpose (a damaged file, a full disk) end it at once with their exit code.
        """
        for seat in range(min(self._crew.seats, len(self._waiting))):
            self._hire(seat)
        while self._waiting or any(self._hands.values()):
            seat, said = self._crew.receive()
            if isinstance(said, WorkerFailure):
                self._replace(seat, said)
            else:
                self._free.add(seat)
            if isinstance(said, WorkerInfo):
                self._agree(said)
            if isinstance(said, Receipt):
                self._hands[seat].pop(0)
                yield said
            self._hand_out()
        self._tries.settle()

    def _hire(self, seat: int) -> None:
        self._hands[seat] = []
        self._crew.start_worker(seat)

    def _hand_out(self) -> None:
        for seat in sorted(self._free):
            hand = self._hands[seat]
            if not hand and self._waiting:
                hand.append(self._waiting.popleft())
            # the last shards are left to whoever is free first
            if len(hand) == 1 and len(self._waiting) >= len(self._hands):
                hand.append(self._waiting.popleft())
            if hand:
                self._free.remove(seat)
                self._crew.send(seat, hand[0], hand[1] if len(hand) > 1 else None)

    def _replace(self, seat: int, trouble: WorkerFailure) -> None:
        self._crew.stop_worker(seat)
        self._free.discard(seat)
        hand = self._hands.pop(seat)
        if not hand:
            if not self._stillborn.again(-1, trouble):
                raise raised(trouble)
        else:
            self._waiting.extendleft(hand[1:])
            if self._tries.again(hand[0], trouble):
                self._waiting.append(hand[0])
        if self._waiting:
            self._hire(seat)

    def _agree(self, opened: WorkerInfo) -> None:
        if self.opened is None and self._check is not None:
            self._check(opened)
        self.opened = self.opened or opened
        if opened != self.opened:
            raise UsageError(
                "the workers would not measure alike: their devices, precisions or versions differ",
                hint="give every worker the same kind of device and the same packages",
            )
