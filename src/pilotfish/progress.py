"""How long work reports progress to its caller: notes and steps, never print."""

from typing import Protocol


class Progress(Protocol):
    """Receives notes and steps. The command line shows them; tests stay silent."""

    def note(self, text: str) -> None:
        """Report one line of text."""

    def step(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` units of a stage are finished; 0 of total opens it."""


class Silent:
    """A Progress that shows nothing."""

    def note(self, text: str) -> None:
        """Ignore a line."""

    def step(self, stage: str, done: int, total: int) -> None:
        """Ignore a step."""


SILENT = Silent()


def duration(seconds: float) -> str:
    """Return a duration as text with at most three digits: "1.5 s", "12 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 86400:.0f} days"
