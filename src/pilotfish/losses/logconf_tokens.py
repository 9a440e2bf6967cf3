"""logconf for language models: only a confident student may side with itself, token by token."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pilotfish.losses.align import student_logs
from pilotfish.losses.inputs import LossInputs
from pilotfish.losses.lm import lm
from pilotfish.losses.logconf import ramp
from pilotfish.losses.validate import check_number


def confidence(log_p: Tensor, targets: Tensor, *, above: float) -> tuple[Tensor, Tensor]:
    """(-log p of the student's own first choice [m] nats, whether it may count [m] bool).

    It may where the choice has a probability above `above` and is not the target.
    """
    first, choice = log_p.max(-1)
    return -first, (first.detach().exp() > above) & (choice != targets)


@dataclass(frozen=True)
class LogConfTokens:
    """LM loss, of which a share goes to the student's own token where it is sure of another one.

    alpha, warmup: as in logconf. above: the probability from which on a student is sure. Our
    proposal, after arXiv:2312.09390; alpha 0 is lm.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    alpha: float = 0.5
    warmup: float = 0.1
    above: float = 0.9

    def __post_init__(self) -> None:
        check_number("logconf_tokens", "alpha", self.alpha, high=1)
        check_number("logconf_tokens", "warmup", self.warmup, high=1)
        check_number("logconf_tokens", "above", self.above, high=1)

    def __call__(self, logits: Tensor, given: LossInputs) -> Tensor:
        """[m, v], targets [m] -> [m] nats."""
        if given.targets is None:
            raise ValueError("logconf_tokens needs the targets")
        plain = lm(logits, given.targets)
        share = ramp(given.progress, alpha=self.alpha, warmup=self.warmup)
        if not share:
            return plain
        own, sure = confidence(student_logs(logits, given), given.targets, above=self.above)
        return torch.where(sure, (1 - share) * plain + share * own, plain)

    def describe(self) -> str:
        """The loss in words."""
        return (
            f"cross-entropy of the data's own next token; where the student gives another one more "
            f"than {self.above:g}, up to {self.alpha:g} of it goes there (rising over the first "
            f"{self.warmup:.0%} of the steps)"
        )
