"""The settings of `pilotfish label`: how the weak model labels rows, and which labels are kept."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pilotfish.config.method import parse_methods
from pilotfish.config.settings import Block, Metavar
from pilotfish.errors import UsageError


class LabelConfig(Block):
    """How rows are labelled; every field is an option of `pilotfish label`."""

    kind: Literal["hard", "soft", "consistency"] = "hard"
    """hard: the greedy answer, or the likeliest class; soft: probabilities of the classes;
    consistency: the most frequent of sampled answers."""
    classes: list[str] | None = None
    """The possible answers; default: the data's labels."""
    samples: int = Field(8, ge=1)
    """For consistency: number of answers per row."""
    temperature: float = 0.7
    """For consistency: sampling temperature."""
    abstain_below: float | None = Field(None, ge=0, le=1)
    """Set labels with a lower confidence aside."""
    filter: Annotated[str | None, Metavar("METHOD,..")] = None
    """Which labels to keep, one filter after the other: confidence(keep=0.8),
    consistency(above=0.5), knn(k=20, keep=0.8), trust(keep=0.8)."""
    folds: int = 0
    """Cross-fitting: train one model per fold on the trusted rows of the other folds (without
    --trusted: on the pool's own answers), and label the held-out fold with it."""
    tune: bool = True
    """Whether to train the weak model on the trusted rows, or use them for the filter trust
    only."""
    head: bool | None = None
    """Whether the models answer by a classification head; default: yes for those that have one or
    write no text."""
    then: Annotated[list[str], Metavar("MODEL,..")] = Field(default_factory=list)
    """Train each model on the labels of the one before, in folds, and label again."""
    refill: Annotated[str | None, Metavar("MODEL")] = None
    """Train it on the kept labels, in folds; add rows back where it agrees."""
    refill_rule: Annotated[str, Metavar("METHOD")] = "refill"
    """Which rows --refill adds back: refill(quota=.., floor=..)."""
    max_new_tokens: int | None = Field(None, ge=1)
    """Longest free answer; default: as long as the data's own answers."""
    max_length: int = Field(1024, ge=2)
    """Longest row with its answer, in tokens."""
    seed: int = 0
    """Seed of folds, samples, tuning and training."""

    @model_validator(mode="after")
    def _check_together(self) -> "LabelConfig":
        if self.folds == 1 or self.folds < 0:
            raise UsageError(
                f"--folds is {self.folds}: a fold must be labelled by a model that was tuned on "
                "the other folds",
                hint="give 2 or more, or leave it out",
            )
        if self.classes and (len(self.classes) < 2 or len({*self.classes}) < len(self.classes)):
            raise UsageError(
                f"--classes needs two or more, all distinct: {', '.join(self.classes)}"
            )
        if self.kind == "consistency" and self.classes:
            raise UsageError(
                "consistency is the share of sampled free answers that agree; for classes the "
                "model gives probabilities",
                hint="--kind soft, or leave --classes out",
            )
        return self

    @property
    def filters(self) -> tuple[str, ...]:
        """Each filter as METHOD text, in the order in which they apply."""
        return tuple(method.text for method in parse_methods(self.filter)) if self.filter else ()

    @property
    def filter_names(self) -> set[str]:
        """Names of the filters."""
        return {method.name for method in parse_methods(self.filter)} if self.filter else set()
