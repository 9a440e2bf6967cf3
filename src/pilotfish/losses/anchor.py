"""Staying near the model that training started from."""

from torch import Tensor

from pilotfish.losses.align import student_logs, width_of
from pilotfish.losses.divergences import floored, reverse_kl
from pilotfish.losses.inputs import LossInputs
from pilotfish.losses.lm import log_probabilities


def to_base(logits: Tensor, given: LossInputs) -> Tensor:
    """KL(student || frozen base) of every row. [m, v], base [m, v] -> [m] nats >= 0.

    ValueError without the base's logits.
    """
    if given.base is None:
        raise ValueError("this loss needs the logits of the frozen base")
    base = log_probabilities(given.base.detach()[:, : width_of(logits, given)])
    return reverse_kl(floored(base), student_logs(logits, given))
