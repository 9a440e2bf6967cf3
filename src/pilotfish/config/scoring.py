"""ScoreConfig: everything that decides the scores of one `pilotfish score`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.config.method import Method
from pilotfish.config.training import WeakTrainConfig
from pilotfish.errors import UsageError

DEFAULT_MAX_LENGTH = 1024  # tokens of a row that the weak model reads, unless set


@dataclass(frozen=True)
class ScoreConfig:
    """How one weak model scores a pool. Who measures (ExecutorConfig) changes no score.

    Attributes:
        weak: MODEL that measures: a local folder or a hub id.
        methods: The methods to score by, one column each.
        names: Column names, one per method; empty: the text of each method.
        direction: Which end of the scores is kept, for every method; None: each method's own.
        trusted: Where the trusted rows come from that the weak model is fine-tuned on first.
        max_length: Tokens of a row that the model reads; None: DEFAULT_MAX_LENGTH.
        precision: fp32, bf16, int8 or auto.
        seed: Which of the run's weak models this is.
        stream: Seeds the fine-tuning and every draw; None: `seed`.
        token_budget: Tokens per forward pass; None: what the free memory holds.
        weak_train: Settings of the fine-tuning on trusted rows; None: the defaults.
        section: Section of run.json for the facts of the model: `weak`, or `cheap` for the first
            model of a cascade.
        cascade: What decides which rows the model reads, as run.json keeps it; None: all rows.
    """

    weak: str
    methods: Sequence[Method] = ()
    names: Sequence[str] = ()
    direction: str | None = None
    trusted: str | None = None
    max_length: int | None = None
    precision: str = "auto"
    seed: int = 0
    stream: int | None = None
    token_budget: int | None = None
    weak_train: WeakTrainConfig | None = None
    section: str = "weak"
    cascade: Mapping[str, Any] | None = None

    def columns(self) -> dict[str, Method]:
        """Return the method of each column, by column name.

        Raises:
            UsageError: The names do not match the methods, or two columns share a name.
        """
        if self.names and len(self.names) != len(self.methods):
            raise UsageError(f"--as gives {len(self.names)} names for {len(self.methods)} methods")
        names = self.names or [method.text for method in self.methods]
        columns = dict(zip(names, self.methods, strict=True))
        if len(columns) != len(self.methods):
            raise UsageError("two methods would share one column name", hint="name them with --as")
        return columns
