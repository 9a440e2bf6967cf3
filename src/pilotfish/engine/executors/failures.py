"""What went wrong in a worker, in plain values; and how often a shard may fail before it counts."""

import traceback
from pathlib import Path
from typing import NamedTuple

from pilotfish.errors import DiskError, PilotfishError

TRIES = 3  # times a shard is started before it is given up
LOST = 3  # shards given up after which no more are started


class WorkerFailure(NamedTuple):
    """An error on its way from a worker to whoever started it."""

    words: str
    hint: str | None = None
    exit_code: int | None = None  # of an error made on purpose: trying again would not help

    @classmethod
    def of(cls, error: Exception) -> "WorkerFailure":
        """What to say of any error."""
        known = error if isinstance(error, PilotfishError) else DiskError.of(error)
        if known is not None:
            return cls(str(known), known.hint, known.exit_code)
        last = traceback.extract_tb(error.__traceback__)[-1:]
        where = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in last)
        return cls(f"{type(error).__name__}: {error}{where}")


class RetryTracker:
    """Counts how often each shard failed. Whoever asks raises when enough is enough."""

    def __init__(self) -> None:
        self._failed: dict[int, int] = {}
        self.lost: dict[int, str] = {}  # shard -> what was said of it last

    def again(self, shard: int, trouble: WorkerFailure) -> bool:
        """Whether to start a failed shard once more; raises where that can be no help."""
        if trouble.exit_code is not None:
            raise raised(trouble)
        self._failed[shard] = self._failed.get(shard, 0) + 1
        if self._failed[shard] < TRIES:
            return True
        self.lost[shard] = trouble.words
        if len(self.lost) >= LOST:
            self.settle()
        return False

    def settle(self) -> None:
        """Raise PilotfishError (exit 1) where shards were given up, naming them."""
        if self.lost:
            shard, words = next(iter(self.lost.items()))
            named = ", ".join(map(str, sorted(self.lost)))
            raise PilotfishError(
                f"shard {named} failed {TRIES} times; of shard {shard} it was said: {words}",
                hint="the other shards are kept: the same command again tries only what is missing",
            )


def raised(trouble: WorkerFailure) -> PilotfishError:
    """The error of a worker, to be raised here with the exit code it had there."""
    error = PilotfishError(trouble.words, hint=trouble.hint)
    error.exit_code = trouble.exit_code or 1
    return error
