"""logconf for language models: only a confident student may prefer its own token."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pilotfish.losses.align import student_logs
from pilotfish.losses.inputs import LossInputs, check_number
from pilotfish.losses.lm import lm
from pilotfish.losses.logconf import ramp


def confidence(log_p: Tensor, targets: Tensor, *, above: float) -> tuple[Tensor, Tensor]:
    """Return (-log p of the student's first choice, whether the student is sure of it).

    The student is sure where the choice has a probability above `above` and is not the target.

    Args:
        log_p: [m, w] nats of the student.
        targets: [m] int64.
        above: Probability in [0, 1].

    Returns:
        [m] nats >= 0 and [m] bool.
    """
    first, choice = log_p.max(-1)
    return -first, (first.detach().exp() > above) & (choice != targets)


@dataclass(frozen=True)
class LogConfTokens:
    """LM loss, of which a share goes to the student's own token where it is sure of another one.

    (1 - a) * -log p[target] + a * -log max p where the student is sure, else -log p[target]. Our
    proposal, after arXiv:2312.09390.

    Attributes:
        alpha: The largest a, in [0, 1]; 0 is lm.
        warmup: Share of the steps over which a rises from 0.
        above: Probability above which the student is sure of a token.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    alpha: float = 0.5
    warmup: float = 0.1
    above: float = 0.9

    def __post_init__(self) -> None:
        check_number("logconf_tokens", "alpha", self.alpha, high=1)
        check_number("logconf_tokens", "warmup", self.warmup, high=1)
        check_number("logconf_tokens", "above", self.above, high=1)

    def __call__(self, logits: Tensor, inputs: LossInputs) -> Tensor:
        """Return [m] nats >= 0 of logits [m, v] and targets [m]."""
        if inputs.targets is None:
            raise ValueError("logconf_tokens needs the targets")
        plain = lm(logits, inputs.targets)
        share = ramp(inputs.progress, alpha=self.alpha, warmup=self.warmup)
        if not share:
            return plain
        own, sure = confidence(student_logs(logits, inputs), inputs.targets, above=self.above)
        return torch.where(sure, (1 - share) * plain + share * own, plain)

    def describe(self) -> str:
        """Describe the loss in words."""
        return (
            f"cross-entropy of the data's own next token; where the student gives another one more "
            f"than {self.above:g}, up to {self.alpha:g} of it goes there (rising over the first "
            f"{self.warmup:.0%} of the steps)"
        )
