"""Whether code that a model brings along may run: no, unless a command allows it.

A switch and no argument, because models are loaded in many places and one forgotten argument would
allow the code, or forbid half of it. Whether a model brings code is checked in `models`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_allowed = False


def allow(on: bool) -> None:
    """Allow or forbid remote code from here on, in this process."""
    global _allowed
    _allowed = on


def allowed() -> bool:
    """Return whether remote code may run."""
    return _allowed


@contextmanager
def allowing(on: bool) -> Iterator[None]:
    """Allow remote code inside the context if `on`, or if it is allowed already."""
    before = _allowed
    allow(before or on)
    try:
        yield
    finally:
        allow(before)
