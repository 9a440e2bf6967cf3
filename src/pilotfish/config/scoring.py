"""Settings of one scoring."""

from dataclasses import dataclass

from pilotfish.config.training import WeakTrainConfig

DEFAULT_MAX_LENGTH = 1024  # tokens of a row the weak model sees where nobody says otherwise


@dataclass(frozen=True)
class ScoreConfig:
    """How the weak model looks at rows."""

    max_length: int | None = None
    precision: str = "auto"
    seed: int = 0  # which weak model of the run
    stream: int | None = None  # what tuning and drawing methods draw with; None: the seed
    token_budget: int | None = None
    tune: WeakTrainConfig | None = None
    trusted: str | None = None  # where the rows the weak model was tuned on came from

    @property
    def drawn_with(self) -> int:
        """The number behind every draw."""
        return self.seed if self.stream is None else self.stream
