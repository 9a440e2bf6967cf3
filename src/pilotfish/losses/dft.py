"""DFT: the language-model loss, each token weighted by the probability the student gives it."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pilotfish.losses.inputs import LossInputs
from pilotfish.losses.lm import lm


@dataclass(frozen=True)
class DFT:
    """Dynamic fine-tuning (arXiv:2508.05629): -sg(p[target]) log p[target], sg without gradient.

    Tokens that the student finds unlikely, noise among them, are learnt slowly.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, logits: Tensor, inputs: LossInputs) -> Tensor:
        """Return [m] nats >= 0 of logits [m, v] and targets [m]."""
        if inputs.targets is None:
            raise ValueError("dft needs the targets")
        plain = lm(logits, inputs.targets)
        return (-plain).detach().exp() * plain

    def describe(self) -> str:
        """Describe the loss in words."""
        return "cross-entropy of the data's own next token times its probability (held fixed)"
