"""The language-model loss: negative log-likelihood of the target."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pilotfish.losses.inputs import LossInputs, check_number


def in_fp32(logits: Tensor) -> Tensor:
    """Convert to fp32; fp64 stays."""
    return logits if logits.dtype == torch.float64 else logits.float()


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax(logits / T) over the last axis, in fp32 or more. [m, v] -> [m, v] nats <= 0."""
    return torch.log_softmax(in_fp32(logits) / temperature, dim=-1)


def lm(logits: Tensor, targets: Tensor) -> Tensor:
    """-log p[target] of every row. [m, v], [m] int64 -> [m] nats >= 0."""
    return -log_probabilities(logits).gather(-1, targets[:, None]).squeeze(-1)


@dataclass(frozen=True)
class LM:
    """Cross-entropy of the next token, or class, in the data.

    (1 - s) * -log p[target] + s * mean over outcomes of -log p, s the smoothing of Szegedy et al.
    2016 (arXiv:1512.00567).

    Attributes:
        smoothing: s in [0, 1], the share of the target spread evenly over all real outcomes.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_number("lm", "smoothing", self.smoothing, high=1)

    def __call__(self, logits: Tensor, inputs: LossInputs) -> Tensor:
        """Return [m] nats >= 0 of logits [m, v] and targets [m]."""
        if inputs.targets is None:
            raise ValueError("lm needs the targets")
        plain = lm(logits, inputs.targets)
        if not self.smoothing:
            return plain
        evenly = -log_probabilities(logits)[:, : inputs.vocabulary].mean(-1)
        return (1 - self.smoothing) * plain + self.smoothing * evenly

    def describe(self) -> str:
        """Describe the loss in words."""
        more = f", {self.smoothing:g} of it spread over all tokens" if self.smoothing else ""
        return f"cross-entropy of the data's own next token{more}"
