"""The weights that learn, as they stood at one moment."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pilotfish.train.setup import Student


def snapshot(student: Student) -> dict[str, Tensor]:
    """A copy of everything that is being trained, by name."""
    named = student.model.named_parameters()
    return {name: weight.detach().clone() for name, weight in named if weight.requires_grad}


@torch.no_grad()
def restore(student: Student, weights: Mapping[str, Tensor]) -> None:
    """Put such a copy back."""
    for name, weight in student.model.named_parameters():
        if name in weights:
            weight.copy_(weights[name])
