"""SIGINT and SIGTERM while training: they wait until the step is done and saved, but not long."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

GRACE = 3.5  # seconds from the signal to the end, whatever is still under way
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class DeferredInterrupts:
    """A signal that came and has not been answered yet."""

    def __init__(self) -> None:
        self.signum = 0
        self._before: dict[int, Any] = {}

    def hold(self) -> None:
        """From now on signals wait; outside the main thread they cannot be held."""
        if threading.current_thread() is not threading.main_thread():
            return
        handlers = {**dict.fromkeys(_SIGNALS, self._came), signal.SIGALRM: self._late}
        self._before = {number: signal.signal(number, do) for number, do in handlers.items()}

    def give_back(self) -> None:
        """Signals are answered again by whoever answered them before."""
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def answer(self, signum: int) -> None:
        """Let the signal do now what it would have done without us."""
        self.give_back()
        self.signum = 0
        handler = signal.getsignal(signum)
        if callable(handler):  # not raised anew: it came once, and the second one means now
            handler(signum, None)
        else:
            signal.raise_signal(signum)

    def _came(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:  # the second one means now
            _leave(signum)
        self.signum = signum
        signal.setitimer(signal.ITIMER_REAL, GRACE)

    def _late(self, signum: int, frame: FrameType | None) -> None:
        self.answer(self.signum)


def _leave(signum: int) -> NoReturn:
    os._exit(128 + signum)


@contextmanager
def defer_interrupts(wanted: bool) -> Iterator[DeferredInterrupts]:
    """Signals wait inside; one that nobody answered is answered at the end."""
    waiting = DeferredInterrupts()
    if wanted:
        waiting.hold()
    try:
        yield waiting
    finally:
        waiting.give_back()
        if waiting.signum:
            waiting.answer(waiting.signum)
