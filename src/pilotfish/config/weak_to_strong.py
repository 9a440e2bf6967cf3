"""The recipe of a weak-to-strong experiment: a weak model labels, a strong one learns from it."""

import os
import re
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from pilotfish.config.settings import Block, validate
from pilotfish.config.training import TrainConfig
from pilotfish.errors import UsageError

NAME = "weak_to_strong"
Control = Literal["self_training", "gold_half"]
Stop = Literal["honest", "oracle"]
# Arms that every such experiment has, or may have, under names of their own.
RESERVED = (
    "weak", "ceiling", "naive", "stop_honest", "stop_oracle", "self_training", "gold_half",
)  # fmt: skip
_ARM = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")


class LabelsConfig(Block):
    """The `labels:` block: how rows are labelled, by the weak model and in a second round."""

    kind: Literal["hard", "soft", "consistency"] | None = None
    """soft: probabilities of the classes; hard: the likeliest class or the greedy answer;
    consistency: the most frequent of sampled answers. Default: soft for classes, hard for
    answers."""
    samples: int = Field(8, ge=2)
    """Number of answers sampled per row, for consistency."""
    temperature: float = Field(0.7, gt=0)
    """Sampling temperature, for consistency."""
    abstain: float | None = Field(None, ge=0, le=1)
    """Confidence (for consistency, share of the samples) below which a label is dropped."""


class WeakToStrong(Block):
    """Rows with true labels, two models, and the students to train (arXiv:2312.09390)."""

    experiment: Literal["weak_to_strong"] = "weak_to_strong"
    data: str
    """DATA with true labels: texts with labels, or prompts with answers. `$NAME` in a path is
    filled in from the environment."""
    weak: str
    """MODEL that is trained on the weak half and then labels the student half."""
    strong: str
    """MODEL that is trained on those labels."""
    test: str | None = None
    """Rows to evaluate on; default: a part of `data`."""
    trust_remote_code: bool = False
    """Run the code that a model ships with: it can do all that you can."""
    seeds: int = Field(3, ge=1, le=1000)
    """Number of seeds of every arm."""
    weak_rows: int | None = Field(None, ge=2)
    """Number of rows with true labels for the weak model; default: half of what is left."""
    rows: int | None = Field(None, ge=2)
    """Number of rows for every strong arm; default: the rest."""
    validation_rows: int = Field(200, ge=0)
    """Number of rows kept apart; the trust head and the stopping oracle use their true labels."""
    test_rows: int = Field(1000, ge=2)
    """Number of rows evaluated, at most."""
    loss: str | None = None
    """LOSS of the naive arm, and of arms that differ from it by their rows alone; default:
    `soft_ce` for classes, `lm` for answers."""
    losses: dict[str, str] = Field(default_factory=dict)
    """Further arms on the same rows: arm name -> LOSS, as `logconf: logconf`."""
    filters: dict[str, str] = Field(default_factory=dict)
    """Arms on the rows that a filter keeps: name -> METHOD, as `sure: confidence(keep=0.7)`."""
    stopping: list[Stop] = Field([])
    """Further arms: the naive student at its best step on the validation rows, by their weak labels
    (honest: the arm `stop_honest`) or by their true ones (oracle: `stop_oracle`)."""
    labels: LabelsConfig = LabelsConfig()
    """How rows are labelled."""
    controls: list[Control] = Field(["self_training", "gold_half"])
    """Control arms: trained on labels of the naive student, and on true labels of the weak half."""
    looks: int = Field(4, ge=0)
    """Number of points of the error-inheritance curves, the last step included; 0: none."""
    min_gap: float = Field(0.02, gt=0)
    """Smallest gap between ceiling and floor for which PGR is reported."""
    out: str | None = None
    """The run folder; default: runs/<recipe name>."""
    seed: int = 0
    """Start of every random draw, the split included."""
    limit: int | None = Field(None, gt=0)
    """Read only the first N records."""
    max_bad_rate: float = Field(0.01, ge=0, le=1)
    """Share of bad records above which the command stops (exit 3)."""
    map: dict[str, str] = Field(default_factory=dict)
    """Which column holds which field, as `text: sentence`."""
    dataset_config: str | None = None
    """Configuration of a hub dataset."""
    split: str | None = None
    """Split of a hub dataset; default: train."""
    revision: str | None = None
    """Revision of a hub dataset."""
    weak_train: TrainConfig = TrainConfig()
    """How the weak model is trained on the weak half; its `loss` is `lm`."""
    train: TrainConfig = TrainConfig()
    """How the strong model is trained in every arm; the arms decide the loss."""

    @field_validator("data", "weak", "strong", "test")
    @classmethod
    def _filled_in(cls, path: str | None) -> str | None:
        if path is None:
            return None
        absent = [a or b for a, b in _VARIABLE.findall(path) if (a or b) not in os.environ]
        if absent:
            raise ValueError(f"the environment has no {absent[0]}")
        return os.path.expandvars(path)

    @field_validator("losses", "filters")
    @classmethod
    def _named(cls, arms: dict[str, str]) -> dict[str, str]:
        for name in arms:
            if name in RESERVED:
                raise ValueError(f"'{name}' is an arm of its own; choose another name")
            if not _ARM.fullmatch(name):
                raise ValueError(f"'{name}' cannot name an arm: small letters, digits, _ . -")
        return arms

    @field_validator("weak_train", "train")
    @classmethod
    def _no_choice_left(cls, config: TrainConfig) -> TrainConfig:
        if config.loss != "lm":
            raise ValueError("the arms decide the loss: set `loss` or `losses` of the recipe")
        if isinstance(config.learning_rate, list):
            raise ValueError("learning_rate must be one value here")
        if config.teacher == "cached":
            raise ValueError("teacher must be online here: nothing is stored in such an experiment")
        if config.of_language_models:
            raise ValueError(f"{config.of_language_models[0]} is not known here")
        return config


def make_weak_to_strong(
    settings: dict[str, Any], overrides: list[str] | None = None
) -> WeakToStrong:
    """Check the settings of an experiment, with the `a.b=value` texts of `--set` on top."""
    parts: dict[object, type[BaseModel]] = {
        "train": TrainConfig, "weak_train": TrainConfig, "labels": LabelsConfig,
    }  # fmt: skip
    recipe = validate(WeakToStrong, settings, overrides, parts=parts)
    if twice := sorted({*recipe.losses} & {*recipe.filters}):
        raise UsageError(f"'{twice[0]}' names an arm in both `losses` and `filters`")
    if recipe.stopping and not recipe.validation_rows:
        raise UsageError("`stopping` chooses by validation rows: set validation_rows above 0")
    return recipe
