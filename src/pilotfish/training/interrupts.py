"""Defer SIGINT and SIGTERM while training, until the step is done and saved, but not for long."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

GRACE = 3.5  # seconds from the signal to the end, whatever is still in progress
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class DeferredInterrupts:
    """A signal that came and was not handled yet."""

    def __init__(self) -> None:
        self.signum = 0  # 0: none came
        self._before: dict[int, Any] = {}

    def hold(self) -> None:
        """Defer signals from now on; outside the main thread that is not possible."""
        if threading.current_thread() is not threading.main_thread():
            return
        handlers = {**dict.fromkeys(_SIGNALS, self._on_signal), signal.SIGALRM: self._on_alarm}
        self._before = {number: signal.signal(number, do) for number, do in handlers.items()}

    def release(self) -> None:
        """Restore the handlers that were there before."""
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def deliver(self, signum: int) -> None:
        """Handle a deferred signal as it would have been handled before."""
        self.release()
        self.signum = 0
        handler = signal.getsignal(signum)
        if callable(handler):  # not raised: it came once, and a second one means now
            handler(signum, None)
        else:
            signal.raise_signal(signum)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:  # the second one means now
            os._exit(128 + signum)
        self.signum = signum
        signal.setitimer(signal.ITIMER_REAL, GRACE)

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        self.deliver(self.signum)


@contextmanager
def defer_interrupts(enabled: bool) -> Iterator[DeferredInterrupts]:
    """Defer signals inside; one that was not delivered by the end is delivered then."""
    deferred = DeferredInterrupts()
    if enabled:
        deferred.hold()
    try:
        yield deferred
    finally:
        deferred.release()
        if deferred.signum:
            deferred.deliver(deferred.signum)
