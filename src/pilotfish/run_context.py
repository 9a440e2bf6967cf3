"""RunContext: a run folder and how to work on it, passed as one argument."""

from dataclasses import dataclass

from pilotfish.progress import SILENT, Progress
from pilotfish.store import Run, Store


@dataclass(frozen=True)
class RunContext:
    """A run, and how the steps of one command work on it.

    Attributes:
        run: The run folder with its manifest, run.json.
        progress: Receives notes and finished steps; silent by default.
        force: Replace results that were made with other settings, instead of refusing them.
    """

    run: Run
    progress: Progress = SILENT
    force: bool = False

    @property
    def store(self) -> Store:
        """The store of the run folder, which commits files."""
        return self.run.store
