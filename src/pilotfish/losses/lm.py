"""The language-model loss: how surprised the student is by the right token."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pilotfish.losses.given import Given


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax(logits / T) over the last axis, in fp32 at least. [m, v] -> [m, v] nats <= 0."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return torch.log_softmax(wide / temperature, dim=-1)


def lm(logits: Tensor, targets: Tensor) -> Tensor:
    """-log p[target] of every row. [m, v], [m] int -> [m] nats >= 0."""
    return -log_probabilities(logits).gather(-1, targets[:, None]).squeeze(-1)


@dataclass(frozen=True)
class LM:
    """Learn the data's own next token (cross-entropy)."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, logits: Tensor, given: Given) -> Tensor:
        """[m, v], targets [m] -> [m] nats."""
        assert given.targets is not None
        return lm(logits, given.targets)

    def describe(self) -> str:
        """The loss in words."""
        return "cross-entropy of the data's own next token"
