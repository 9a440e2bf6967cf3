"""Product: the target is what teacher and student agree on."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pilotfish.losses.align import dense_logs, student_logs
from pilotfish.losses.inputs import LossInputs
from pilotfish.losses.validate import check_number


@dataclass(frozen=True)
class Product:
    """Cross-entropy towards a target in proportion to p^beta q^alpha, p held fixed.

    alpha, beta: exponents >= 0 of teacher and student; beta 0 with alpha 1 is soft_ce. A certain
    teacher (all mass on one outcome) is learnt as that outcome. In code of openai/weak-to-strong
    (arXiv:2312.09390), without a headline result.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})

    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_number("product", "alpha", self.alpha)
        check_number("product", "beta", self.beta)

    def __call__(self, logits: Tensor, given: LossInputs) -> Tensor:
        """[m, v], a dense teacher -> [m] nats. ValueError without one."""
        log_q, log_p = dense_logs(logits, given), student_logs(logits, given)
        target = torch.softmax(self.alpha * log_q + self.beta * log_p.detach(), -1)
        return -(target * log_p).sum(-1)

    def describe(self) -> str:
        """The loss in words."""
        return (
            f"cross-entropy towards the student's own belief to the power of {self.beta:g} times "
            f"the teacher's to the power of {self.alpha:g}"
        )
