"""DFT: the language-model loss, each token weighted by how likely the student finds it already."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pilotfish.losses.inputs import LossInputs
from pilotfish.losses.lm import lm


@dataclass(frozen=True)
class DFT:
    """-p[target] log p[target], no gradient through the weight: noise is learnt slowly.

    Source: dynamic fine-tuning, arXiv:2508.05629.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, logits: Tensor, given: LossInputs) -> Tensor:
        """[m, v], targets [m] -> [m] nats."""
        if given.targets is None:
            raise ValueError("dft needs the targets")
        plain = lm(logits, given.targets)
        return (-plain).detach().exp() * plain

    def describe(self) -> str:
        """The loss in words."""
        return "cross-entropy of the data's own next token times its probability (held fixed)"
