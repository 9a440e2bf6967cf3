"""What a target is told and gives back: arms with their rows, settings, and files of text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import yaml

from pilotfish.config import TrainConfig
from pilotfish.records import Example

STRONG = "YOUR/STRONG-MODEL"  # where a run does not name one


@dataclass(frozen=True)
class Job:
    """One arm with one seed. rows: in the order they are learnt; draw: what training draws with."""

    arm: str
    seed: int
    draw: int
    rows: Sequence[Example]

    @property
    def name(self) -> str:
        """A file's name without its ending."""
        return f"{self.arm.replace('@', '-at-')}-seed-{self.seed}"


@dataclass(frozen=True)
class TrainSettings:
    """The settings that all arms share, those of the run's recipe.

    steps, warmup_steps: optimizer steps. templated: whether the strong model's tokenizer has a chat
    template; None where nobody could look. end: its end token, None where unknown.
    """

    config: TrainConfig
    strong: str
    steps: int
    warmup_steps: int
    learning_rate: float
    peft: bool
    templated: bool | None = None
    end: str | None = None

    @property
    def chats(self) -> bool:
        """Whether rows may be left to a chat template."""
        return self.templated is not False


@dataclass(frozen=True)
class Written:
    """The files of an export by name.

    train: the command that trains one job, `{name}` standing for it. line: the one line to change
    in a config of the user's own. notes: what differs from pilotfish's training.
    """

    files: dict[str, str]
    train: str = ""
    line: str = ""
    notes: list[str] = field(default_factory=list)


class Target(Protocol):
    """A trainer that rows are written for."""

    name: str

    def write(self, jobs: Sequence[Job], how: TrainSettings) -> Written:
        """Data and config of every job. Raises DataError for rows the trainer cannot learn."""


SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def given(name: str, value: Any) -> dict[str, Any]:
    """The setting, where the run has one."""
    return {} if value is None else {name: value}


def yaml_text(settings: dict[str, Any]) -> str:
    """YAML in the order given."""
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
