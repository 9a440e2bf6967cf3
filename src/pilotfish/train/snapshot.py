"""The weights that learn, as they stood at one moment."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from pilotfish.train.setup import Student


def snapshot(student: Student) -> dict[str, Tensor]:
    """A copy of everything that is being trained, by name: of sharded weights this rank's part."""
    named = student.model.named_parameters()
    return {name: local(weight).detach().clone() for name, weight in named if weight.requires_grad}


@torch.no_grad()
def restore(student: Student, weights: Mapping[str, Tensor]) -> None:
    """Put such a copy back."""
    for name, weight in student.model.named_parameters():
        if name in weights:
            local(weight).copy_(weights[name])


def local(weight: Tensor) -> Tensor:
    """This rank's part of a weight that may be sharded."""
    return weight.to_local() if isinstance(weight, DTensor) else weight
