"""Feed-forward blocks whose intermediate activations stay in int8.

The intermediate activations are rotated before they are rounded, and the weights behind them with
them: they have the heaviest tails of a model, and their rounding was most of int8's error on
trained models.

Two structures are supported: down(act(up(x))) and down(act(gate(x)) * up(x)). The structure and
the activation of a module are not read off its name: every candidate is compared with the module.
"""

from dataclasses import dataclass
from itertools import permutations

import torch
from torch import nn

from pilotfish.engine.int8.linear import QuantizedWeight, Weights, weights_of
from pilotfish.engine.int8.native import kernels
from pilotfish.engine.int8.plain import ACTIVATIONS, act

_CLOSE = 1e-5  # relative, root mean square; variants of GELU differ by 1e-4


@dataclass(frozen=True)
class MlpStructure:
    """The parts of a feed-forward block: up, or gate and up; down; and the activation."""

    wide: tuple[Weights, ...]
    down: Weights
    kind: str  # one of ACTIVATIONS

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the block in fp32."""
        first, *rest = (nn.functional.linear(x, *each) for each in self.wide)
        middle = act(self.kind, first)
        return nn.functional.linear(middle * rest[0] if rest else middle, *self.down)


class Int8Mlp(nn.Module):
    """A feed-forward block in int8; fp32 [..., d] -> [..., d]."""

    def __init__(self, structure: MlpStructure) -> None:
        super().__init__()
        weights = torch.cat([weight for weight, _ in structure.wide])
        biases = [torch.zeros(len(w)) if bias is None else bias for w, bias in structure.wide]
        self.wide = QuantizedWeight.of(weights, torch.cat(biases))
        self.down = QuantizedWeight.of(*structure.down, rotated=True)
        self.kind = structure.kind
        self.gated = len(structure.wide) == 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output by two integer products; inputs are rounded per token."""
        middle = kernels().gate if self.gated else kernels().activate
        q, row = self.wide.inputs(x.reshape(-1, x.shape[-1]))
        q, row = middle(self.wide.product(q, row), self.kind, self.down.balance)
        y = kernels().rescale(self.down.product(q, row))
        return y.view(*x.shape[:-1], -1)


def recognise(module: nn.Module) -> MlpStructure | None:
    """Return the structure of `module`, None where it is no feed-forward block of a known one."""
    parts = [part for child in module.children() if (part := weights_of(child)) is not None]
    own = sum(1 for _ in module.parameters())
    inside = sum(1 + (bias is not None) for _, bias in parts)
    if len(parts) not in (2, 3) or own != inside:
        return None
    for *wide, down in permutations(parts):
        middle = {len(weight) for weight, _ in wide}
        inputs = {weight.shape[1] for weight, _ in wide}
        if middle != {down[0].shape[1]} or inputs != {len(down[0])}:
            continue
        for kind in ACTIVATIONS:
            candidate = MlpStructure(tuple(wide), down, kind)
            if _matches(candidate, module):
                return candidate
    return None


def _matches(structure: MlpStructure, module: nn.Module) -> bool:
    draw = torch.Generator().manual_seed(0)
    # The second row is large: activations that agree near zero differ there.
    x = torch.randn(2, len(structure.down[0]), generator=draw) * torch.tensor([[1.0], [6.0]])
    try:
        known = module(x)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return False  # takes other inputs than states
    found = structure(x)
    if not isinstance(known, torch.Tensor) or found.shape != known.shape:
        return False
    return bool((found - known).norm() <= _CLOSE * known.norm())
