"""The interface of an export target: arms with their rows and settings in, files of text out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import yaml

from pilotfish.config import TrainConfig
from pilotfish.records import Example

STRONG = "YOUR/STRONG-MODEL"  # where a run does not name one


@dataclass(frozen=True)
class Job:
    """One arm with one seed.

    Attributes:
        arm: Name of the arm.
        seed: Number of the seed.
        draw: The random seed that training draws with.
        rows: The rows in the order of training.
    """

    arm: str
    seed: int
    draw: int
    rows: Sequence[Example]

    @property
    def name(self) -> str:
        """Name of the job's files, without their ending."""
        return f"{self.arm.replace('@', '-at-')}-seed-{self.seed}"


@dataclass(frozen=True)
class TrainSettings:
    """The settings that all arms share: those of the run's recipe.

    Attributes:
        config: The `train:` block.
        strong: Folder or hub id of the strong model.
        steps, warmup_steps: Optimizer steps.
        learning_rate: The rate at its highest.
        peft: Whether LoRA adapters are trained.
        templated: Whether the strong model's tokenizer has a chat template; None where unknown.
        end: Its end token; None where unknown.
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
        """Whether rows can be left to a chat template."""
        return self.templated is not False


@dataclass(frozen=True)
class Written:
    """The files of an export.

    Attributes:
        files: File name -> text.
        train: The command that trains one job, with `{name}` for the job's name.
        line: The line to change in a config of the user's own.
        notes: How the trainer differs from pilotfish's training.
    """

    files: dict[str, str]
    train: str = ""
    line: str = ""
    notes: list[str] = field(default_factory=list)


class Target(Protocol):
    """A trainer that rows are written for."""

    name: str

    def write(self, jobs: Sequence[Job], settings: TrainSettings) -> Written:
        """Write data and config of every job. Raises DataError for rows the trainer cannot use."""


SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def optional(name: str, value: Any) -> dict[str, Any]:
    """Return {name: value}, or {} where the run does not set it."""
    return {} if value is None else {name: value}


def yaml_text(settings: dict[str, Any]) -> str:
    """Write settings as YAML in the order given."""
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
