"""Whether the code that a model brings may be run: no, unless asked for, command by command.

A switch and no argument, because a model is loaded in many places and one forgotten argument would
open the door, or close it half-way. It says what the person asked; what a model brings, `models`
finds out.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_asked = False


def allow(on: bool) -> None:
    """Set what holds from here on, in this process."""
    global _asked
    _asked = on


def allowed() -> bool:
    """Whether the person asked for remote code."""
    return _asked


@contextmanager
def allowing(on: bool) -> Iterator[None]:
    """Remote code may be run inside where `on`, or where it may be already."""
    before = _asked
    allow(before or on)
    try:
        yield
    finally:
        allow(before)
