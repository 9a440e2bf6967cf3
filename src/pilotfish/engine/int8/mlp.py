"""Feed-forward blocks whose middle never leaves int8: no fp32 activations in between.

The middle is rotated before it is rounded, and the weights behind it with it: numbers there have
the heaviest tails of a model, and their rounding was most of int8's error on trained models.

Two makes are known: down(act(up(x))) and down(act(gate(x)) * up(x)). Which one a module is, with
which activation, is not read off its name: every guess is compared with the module itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import torch
from torch import nn

from pilotfish.engine.int8.linear import QuantizedWeight
from pilotfish.engine.int8.native import kernels
from pilotfish.engine.int8.plain import ACTIVATIONS, act

_CLOSE = 1e-5  # relative, root mean square: kinds of GELU differ by 1e-4

Linear = Callable[[nn.Module], tuple[torch.Tensor, torch.Tensor | None] | None]


@dataclass(frozen=True)
class Make:
    """How a feed-forward block is put together: weights [n, k] with their biases."""

    wide: tuple[tuple[torch.Tensor, torch.Tensor | None], ...]  # up; or gate, up
    down: tuple[torch.Tensor, torch.Tensor | None]
    kind: str

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The block in fp32, as guessed."""
        first, *rest = (nn.functional.linear(x, *each) for each in self.wide)
        middle = act(self.kind, first)
        return nn.functional.linear(middle * rest[0] if rest else middle, *self.down)


class Int8Mlp(nn.Module):
    """A feed-forward block in int8; takes and gives fp32 [..., d] -> [..., d]."""

    def __init__(self, make: Make) -> None:
        super().__init__()
        weights = torch.cat([weight for weight, _ in make.wide])
        biases = [torch.zeros(len(w)) if bias is None else bias for w, bias in make.wide]
        self.wide = QuantizedWeight.of(weights, torch.cat(biases))
        self.down = QuantizedWeight.rotated(*make.down)
        self.kind = make.kind
        self.gated = len(make.wide) == 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two integer products; their inputs are rounded per token."""
        wide, down = self.wide, self.down
        middle = kernels().gate if self.gated else kernels().activate
        q, row = wide.inputs(x.reshape(-1, x.shape[-1]))
        q, row = middle(wide.sums(q), row, wide.scale, wide.bias, self.kind, down.balance)
        y = kernels().rescale(down.sums(q), row, down.scale, down.bias)
        return y.view(*x.shape[:-1], -1)


def recognise(module: nn.Module, linear: Linear) -> Make | None:
    """What `module` is made of, None where it is no feed-forward block of a known make.

    `linear` tells weight [n, k] and bias of a linear layer, None of anything else.
    """
    parts = [part for child in module.children() if (part := linear(child)) is not None]
    own = sum(1 for _ in module.parameters())
    inside = sum(1 + (bias is not None) for _, bias in parts)
    if len(parts) not in (2, 3) or own != inside:
        return None
    return next((make for make in _guesses(parts) if _is(make, module)), None)


def _guesses(parts: list[Any]) -> Iterator[Make]:
    """Every way to put the linear layers together whose shapes fit."""
    for *wide, down in permutations(parts):
        middle = {len(weight) for weight, _ in wide}
        inputs = {weight.shape[1] for weight, _ in wide}
        if middle == {down[0].shape[1]} and inputs == {len(down[0])}:
            for kind in ACTIVATIONS:
                yield Make(tuple(wide), down, kind)


def _is(make: Make, module: nn.Module) -> bool:
    draw = torch.Generator().manual_seed(0)
    # The second row is large, where activations that look alike near zero part.
    x = torch.randn(2, len(make.down[0]), generator=draw) * torch.tensor([[1.0], [6.0]])
    try:
        known = module(x)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return False  # takes something else than states
    found = make(x)
    if not isinstance(known, torch.Tensor) or found.shape != known.shape:
        return False
    return bool((found - known).norm() <= _CLOSE * known.norm())
