"""The contenders by name, made alike for the race and for a process of their own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ours import Ours
from benchmarks.peers import OneRow, Padded
from benchmarks.rows import Row
from pilotfish.models import load

ONE = "one_row"
PADDED = {
    "padded_8": {"size": 8, "by_length": False},
    "sorted_8": {"size": 8, "by_length": True},
    "sorted_16": {"size": 16, "by_length": True},
}
OURS = {f"ours_{precision}": precision for precision in ("fp32", "bf16", "int8")}
NAMES = (ONE, *PADDED, *OURS)


@dataclass(frozen=True)
class Stage:
    """What all contenders share: a model folder, the rows and their file, a working folder."""

    model: Path
    data: Path
    rows: tuple[Row, ...]
    work: Path
    max_length: int
    device: str = "cpu"

    def make(self, name: str) -> Any:
        """The contender of that name. Raises UsageError for a precision this machine lacks."""
        if name in OURS:
            return Ours(
                self.model,
                self.data,
                self.work / name,
                precision=OURS[name],
                max_length=self.max_length,
                device=self.device,
            )
        # The peers run the plain fp32 model; on a GPU, where nobody would, bf16.
        precision = "fp32" if self.device == "cpu" else "auto"
        loaded = load(str(self.model), device=self.device, precision=precision)
        given = (loaded.model, loaded.tokenizer, self.rows, self.max_length)
        return OneRow(*given) if name == ONE else Padded(*given, **PADDED[name])
