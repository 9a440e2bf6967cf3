"""Soft cross-entropy: learn a distribution over outcomes, the naive loss of label mode."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pilotfish.losses.align import both_logs, student_logs
from pilotfish.losses.inputs import LossInputs, Sampled
from pilotfish.losses.validate import check_number


def soft_ce(logits: Tensor, given: LossInputs) -> Tensor:
    """-sum q log p of every row; gradient p - q. [m, v], a teacher -> [m] nats >= 0.

    Differs from KL(q || p) by the entropy of q, which no student changes. A sampled teacher gives
    an unbiased estimate of it (arXiv:2503.16870).
    """
    if isinstance(given.teacher, Sampled):
        return sampled_ce(student_logs(logits, given), given.teacher)
    log_q, log_p = both_logs(logits, given)
    return -(log_q.exp() * log_p).sum(-1)


def sampled_ce(log_p: Tensor, teacher: Sampled) -> Tensor:
    """-sum of the draws' weights times log p. [m, w], draws [m, k] -> [m] nats.

    Draws of tokens that pad the teacher's head are left out, and the others' weights add up to 1.
    """
    width = log_p.shape[-1]
    known = teacher.ids < width
    weights = teacher.weights.detach().to(log_p.dtype).masked_fill(~known, 0)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(log_p.dtype).tiny)
    return -(weights * log_p.gather(-1, teacher.ids.clamp(max=width - 1))).sum(-1)


@dataclass(frozen=True)
class SoftCE:
    """Learn the teacher's probabilities as targets.

    smoothing: in [0, 1); the share of the target spread evenly over all (real) outcomes.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_number("soft_ce", "smoothing", self.smoothing, high=1)

    def __call__(self, logits: Tensor, given: LossInputs) -> Tensor:
        """[m, v], a teacher of any form -> [m] nats. ValueError without one."""
        soft = soft_ce(logits, given)
        if not self.smoothing:
            return soft
        evenly: Tensor = -torch.mean(student_logs(logits, given), -1)
        return (1 - self.smoothing) * soft + self.smoothing * evenly

    def describe(self) -> str:
        """The loss in words."""
        more = f", {self.smoothing:g} of them spread evenly" if self.smoothing else ""
        return f"cross-entropy of the teacher's probabilities{more}"
