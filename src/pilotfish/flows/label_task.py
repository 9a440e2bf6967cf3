"""What all steps of one labelling share: the rows, the models, and how they answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pilotfish.config import TrainConfig, TuneConfig
from pilotfish.flows.labelling import Labelling
from pilotfish.flows.progress import Progress
from pilotfish.labels import Refill
from pilotfish.pool import Pool
from pilotfish.records import Example
from pilotfish.store import Run


@dataclass(frozen=True)
class Models:
    """The models of one labelling.

    weak: labels, after being tuned on the trusted rows (unless not `tuned`: then they only serve
    the filter `trust`). then: each is trained on the labels of the one before, and labels anew.
    refill: trained on the labels kept, and asked which of the others may come back, by `rule`.
    head: whether all of them answer by a classification head; None: those that have one, and
    those that are no causal language models.
    """

    weak: str
    tuned: bool = True
    then: tuple[str, ...] = ()
    refill: str | None = None
    rule: Refill = field(default_factory=Refill)
    tune: TuneConfig = field(default_factory=TuneConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    head: bool | None = None

    def heads(self, model: str) -> bool:
        """Whether one of the models answers by a classification head."""
        from pilotfish.models import config_of, is_classifier

        if self.head is not None:
            return self.head
        made = getattr(config_of(model), "architectures", None) or ["CausalLM"]
        writes = any("CausalLM" in each or "LMHead" in each for each in made)
        return is_classifier(model) or not writes


@dataclass(frozen=True)
class Task:
    """The rows to be labelled and how, as all steps of one labelling see them."""

    run: Run
    pool: Pool
    keys: Sequence[str]  # [n] what each row asks
    trusted: Sequence[Example]
    models: Models
    how: Labelling
    progress: Progress
