"""Soft cross-entropy: learn a distribution over outcomes, the naive loss of label mode."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pilotfish.losses.align import both_logs, student_logs
from pilotfish.losses.inputs import LossInputs, Sampled, check_number


def soft_ce(logits: Tensor, inputs: LossInputs) -> Tensor:
    """-sum q log p of every row, with gradient p - q. [m, v], a teacher -> [m] nats >= 0.

    It differs from KL(q || p) by the entropy of q, which does not depend on the student. A sampled
    teacher gives an unbiased estimate (arXiv:2503.16870).
    """
    if isinstance(inputs.teacher, Sampled):
        return sampled_ce(student_logs(logits, inputs), inputs.teacher)
    log_q, log_p = both_logs(logits, inputs)
    return -(log_q.exp() * log_p).sum(-1)


def sampled_ce(log_p: Tensor, teacher: Sampled) -> Tensor:
    """-sum of the draws' weights times log p. [m, w], draws [m, k] -> [m] nats.

    Draws of tokens that pad the teacher's head are left out, and the weights of the others are
    scaled to sum to 1.
    """
    width = log_p.shape[-1]
    known = teacher.ids < width
    weights = teacher.weights.detach().to(log_p.dtype).masked_fill(~known, 0)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(log_p.dtype).tiny)
    return -(weights * log_p.gather(-1, teacher.ids.clamp(max=width - 1))).sum(-1)


@dataclass(frozen=True)
class SoftCE:
    """Cross-entropy of the teacher's probabilities: (1 - s) * -sum q log p + s * mean of -log p.

    Attributes:
        smoothing: s in [0, 1], the share of the target spread evenly over all real outcomes.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_number("soft_ce", "smoothing", self.smoothing, high=1)

    def __call__(self, logits: Tensor, inputs: LossInputs) -> Tensor:
        """Return [m] nats of logits [m, v] and a teacher of any form; ValueError without one."""
        soft = soft_ce(logits, inputs)
        if not self.smoothing:
            return soft
        evenly: Tensor = -torch.mean(student_logs(logits, inputs), -1)
        return (1 - self.smoothing) * soft + self.smoothing * evenly

    def describe(self) -> str:
        """Describe the loss in words."""
        more = f", {self.smoothing:g} of them spread evenly" if self.smoothing else ""
        return f"cross-entropy of the teacher's probabilities{more}"
