"""Product: the target is what teacher and student agree on."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pilotfish.losses.align import dense_logs, student_logs
from pilotfish.losses.inputs import LossInputs, check_number


@dataclass(frozen=True)
class Product:
    """-sum r log p with the target r in proportion to q^alpha p^beta; no gradient through r.

    q is the teacher and p the student. A certain teacher (all mass on one outcome) gives that
    outcome as target. From the code of openai/weak-to-strong (arXiv:2312.09390), which reports no
    headline result for it.

    Attributes:
        alpha: Exponent >= 0 of the teacher.
        beta: Exponent >= 0 of the student; 0 with alpha 1 is soft_ce.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})

    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_number("product", "alpha", self.alpha)
        check_number("product", "beta", self.beta)

    def __call__(self, logits: Tensor, inputs: LossInputs) -> Tensor:
        """Return [m] nats of logits [m, v] and a dense teacher; ValueError without one."""
        log_q, log_p = dense_logs(logits, inputs), student_logs(logits, inputs)
        target = torch.softmax(self.alpha * log_q + self.beta * log_p.detach(), -1)
        return -(target * log_p).sum(-1)

    def describe(self) -> str:
        """Describe the loss in words."""
        return (
            f"cross-entropy towards the student's own belief to the power of {self.beta:g} times "
            f"the teacher's to the power of {self.alpha:g}"
        )
