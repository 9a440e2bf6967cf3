"""Knowledge distillation: the student's whole next-token distribution follows the teacher's."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pilotfish.errors import UsageError
from pilotfish.losses.given import Dense, Given
from pilotfish.losses.lm import log_probabilities


def kd(
    logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, vocabulary: int | None
) -> Tensor:
    """Forward KL(q_T || p_T) * T^2; q the teacher, p the student. [m, v], [m, u] -> [m] nats >= 0.

    Head columns from `vocabulary` on are padding and weigh nothing on both sides: they are cut
    off, which is softmax with -inf there. None: both heads have the same width, all of it real.
    T^2 keeps the size of the gradient as T grows. No gradient reaches the teacher.
    Source: Hinton et al. 2015, arXiv:1503.02531; the weak model as teacher: arXiv:2501.09223.

    Raises ValueError where the heads do not both hold the vocabulary.
    """
    width = logits.shape[-1] if vocabulary is None else vocabulary
    narrow = min(logits.shape[-1], teacher_logits.shape[-1])
    if width > narrow or (vocabulary is None and width != teacher_logits.shape[-1]):
        raise ValueError(
            f"heads of {logits.shape[-1]} and {teacher_logits.shape[-1]} columns "
            f"do not share a vocabulary of {width}"
        )
    log_p = log_probabilities(logits[:, :width], temperature)
    log_q = log_probabilities(teacher_logits[:, :width].detach(), temperature)
    q = log_q.exp()
    # Where q is 0 the term is 0, although log q is -inf there.
    terms = torch.where(q > 0, q * (log_q - log_p), 0.0)
    return terms.sum(-1) * temperature**2


@dataclass(frozen=True)
class KD:
    """Learn the teacher's distribution and nothing else.

    temperature: T > 0; 1 leaves the distributions as they are.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    @property
    def needs(self) -> frozenset[str]:
        """Always the teacher."""
        return frozenset({"teacher"})

    def __call__(self, logits: Tensor, given: Given) -> Tensor:
        """[m, v], a teacher -> [m] nats. ValueError without one."""
        if not isinstance(given.teacher, Dense):
            raise ValueError("kd needs the teacher's logits")
        return kd(
            logits,
            given.teacher.logits,
            temperature=self.temperature,
            vocabulary=given.vocabulary,
        )

    def describe(self) -> str:
        """The loss in words, with the direction of the KL."""
        return (
            "forward KL(teacher || student): the student covers whatever the weak teacher finds "
            f"likely, at temperature {self.temperature:g}, times its square"
        )


def check_temperature(temperature: float) -> None:
    """UsageError unless the temperature is a finite number above 0."""
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not number or not 0 < temperature < float("inf"):
        raise UsageError(
            f"the temperature of kd must be a number above 0, not {temperature!r}",
            hint="write kd(temperature=1)",
        )
