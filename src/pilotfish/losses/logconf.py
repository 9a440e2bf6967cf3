"""logconf: the student may prefer its own confident belief to that of its weak teacher."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pilotfish.losses.align import dense_logs, student_logs
from pilotfish.losses.inputs import LossInputs, check_choice, check_number

PRIORS = ("match", "none")


def ramp(progress: float, *, alpha: float, warmup: float) -> float:
    """alpha * min(1, progress / warmup): continuous, also where the warm-up ends.

    Upstream code jumps there (openai/weak-to-strong, pull request 33); warmup 0 is constant.
    """
    return alpha * (min(1.0, progress / warmup) if warmup else 1.0)


@torch.no_grad()
def hardened(log_p: Tensor, bias: Tensor | None) -> Tensor:
    """Return [m, w] 1 at argmax(log p + bias), else 0; no gradient."""
    leaning = log_p if bias is None else log_p + bias[: log_p.shape[-1]].to(log_p)
    return torch.zeros_like(log_p).scatter_(-1, leaning.argmax(-1, keepdim=True), 1.0)


@dataclass(frozen=True)
class LogConf:
    """Auxiliary confidence loss (arXiv:2312.09390): -sum ((1 - a) q + a h) log p.

    q is the teacher, p the student and h the student's hardened class. More than two classes are
    our generalisation.

    Attributes:
        alpha: The largest a, in [0, 1].
        warmup: Share of the steps over which a rises from 0.
        prior: `match` hardens to argmax(log p + bias), the bias fitted so that the shares of
            hardened classes match the teacher's mean (`fit_bias`); `none` hardens to argmax p.
    """

    alpha: float = 0.5
    warmup: float = 0.1
    prior: str = "match"

    def __post_init__(self) -> None:
        check_number("logconf", "alpha", self.alpha, high=1)
        check_number("logconf", "warmup", self.warmup, high=1)
        check_choice("logconf", "prior", self.prior, PRIORS)

    @property
    def needs(self) -> frozenset[str]:
        """The teacher, and the bias where hardened shares must match."""
        return frozenset({"teacher", "bias"} if self.prior == "match" else {"teacher"})

    def __call__(self, logits: Tensor, inputs: LossInputs) -> Tensor:
        """Return [m] nats of logits [m, v], a dense teacher and a bias [v] (None: 0).

        Raises ValueError without a teacher.
        """
        log_q, log_p = dense_logs(logits, inputs), student_logs(logits, inputs)
        share = ramp(inputs.progress, alpha=self.alpha, warmup=self.warmup)
        target = (1 - share) * log_q.exp()
        if share:
            bias = inputs.bias if self.prior == "match" else None
            target = target + share * hardened(log_p, bias)
        return -(target * log_p).sum(-1)

    def describe(self) -> str:
        """Describe the loss in words."""
        how = ", its shares matched to the teacher's" if self.prior == "match" else ""
        return (
            f"cross-entropy towards the teacher, up to {self.alpha:g} of it the student's own "
            f"first choice{how} (rising over the first {self.warmup:.0%} of the steps)"
        )
