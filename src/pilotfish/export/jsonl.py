"""jsonl: the rows as they came, in the order of training, with the settings in evidence.json."""

from collections.abc import Sequence

from pilotfish.export.base import Job, TrainSettings, Written
from pilotfish.export.rows import as_they_came, text_of


class Jsonl:
    """Plain files for any other trainer."""

    name = "jsonl"

    def write(self, jobs: Sequence[Job], settings: TrainSettings) -> Written:
        """Write one file per job; evidence.json holds the settings."""
        files = {f"{job.name}.jsonl": text_of(as_they_came(job.rows)) for job in jobs}
        return Written(files, line="the path of the training file")
