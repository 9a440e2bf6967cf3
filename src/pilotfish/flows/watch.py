"""The time between the stages: reading, loading, drawing, reporting, so that a ledger adds up."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pilotfish.store import Run


class Watch:
    """Measures what no stage of its own charges for.

    `timed` counts the time spent inside it less what cost events inside it told of, so nothing is
    counted twice. It is written down by `tell`, and only where something was worked on: a command
    that finds all done leaves no trace in the ledger.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._own: dict[tuple[str, str], float] = {}
        self._begun, self._worked = run.spent, False
        self._inside = 0.0  # told or measured inside the stage at hand

    @contextmanager
    def timed(self, stage: str, name: str) -> Iterator[None]:
        """Charge the time inside to `stage`; may stand inside another one."""
        start, spent, inside = time.monotonic(), self._run.spent, self._inside
        self._inside = 0.0
        try:
            yield
        finally:
            took = time.monotonic() - start
            told = self._run.spent - spent
            own = max(0.0, took - told - self._inside)
            self._own[stage, name] = self._own.get((stage, name), 0.0) + own
            self._inside = inside + own

    def tell(self) -> None:
        """Write down what was measured since, if any stage did something by now."""
        self._worked = self._worked or self._run.spent > self._begun
        if self._worked:
            for (stage, name), seconds in self._own.items():
                self._run.cost(stage, name, seconds=seconds)
        self._own = {}
