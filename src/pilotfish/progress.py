"""Progress of long work, reported to the caller; only the command line prints."""

from typing import Protocol


class Progress(Protocol):
    """Receives log lines and progress; the command line prints them."""

    def note(self, text: str) -> None:
        """Report one log line."""

    def step(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` units of `stage` are finished; 0 starts it."""


class Silent:
    """Reports nothing."""

    def note(self, text: str) -> None:
        """Ignore a line."""

    def step(self, stage: str, done: int, total: int) -> None:
        """Ignore a step."""


SILENT = Silent()


def duration(seconds: float) -> str:
    """Seconds in words of at most three digits."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 86400:.0f} days"
