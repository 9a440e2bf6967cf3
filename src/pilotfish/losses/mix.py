"""A weighted sum of the language-model loss and distillation; at kd=0 it is plain lm."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pilotfish.errors import UsageError
from pilotfish.losses.given import Given
from pilotfish.losses.kd import KD, check_temperature
from pilotfish.losses.lm import LM


@dataclass(frozen=True)
class Mix:
    """lm * cross-entropy + kd * forward KL to the weak teacher (arXiv:2501.09223, ch. 4).

    lm, kd: weights >= 0, not both 0; they need not sum to 1. temperature: as in kd.
    """

    lm: float = 0.7
    kd: float = 0.3
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        for weight in (self.lm, self.kd):
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not number or not 0 <= weight < float("inf"):
                raise UsageError(f"the weights of mix must be numbers >= 0, not {weight!r}")
        if self.lm == self.kd == 0:
            raise UsageError("mix with both weights 0 learns nothing", hint="write mix(lm=1, kd=0)")

    @property
    def needs(self) -> frozenset[str]:
        """The teacher, only where it weighs something."""
        return frozenset({"teacher"} if self.kd > 0 else ())

    def __call__(self, logits: Tensor, given: Given) -> Tensor:
        """[m, v], targets [m], a teacher -> [m] nats. A term of weight 0 is not computed."""
        total = torch.zeros((), device=logits.device)
        if self.lm:
            total = total + self.lm * LM()(logits, given)
        if self.kd:
            total = total + self.kd * KD(self.temperature)(logits, given)
        return total

    def describe(self) -> str:
        """The loss in words, with the direction of the KL."""
        terms = [(self.lm, LM().describe()), (self.kd, KD(self.temperature).describe())]
        return " + ".join(f"{weight:g} x ({words})" for weight, words in terms if weight)
