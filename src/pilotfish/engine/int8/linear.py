"""A linear layer whose weights are int8 per output channel and its inputs int8 per token."""

import threading
from typing import NamedTuple

import torch
from torch import nn

from pilotfish.engine.int8.kernels import kernels

# Sums of k products of two numbers within 127 stay within 31 bits below this k.
WIDEST = 2**17


class Narrow(NamedTuple):
    """A weight matrix in int8: row n of the fp32 one is about q[n] * scale[n]."""

    q: torch.Tensor  # [n, k] int8
    scale: torch.Tensor  # [n]
    bias: torch.Tensor  # [n], zeros where there is none

    @classmethod
    def of(cls, weight: torch.Tensor, bias: torch.Tensor | None = None) -> "Narrow":
        """Narrow `weight` [n, k]. A row that is not finite makes its channel nan."""
        q, scale = kernels().quantise(weight.detach().float())
        zeros = torch.zeros(len(weight))
        return cls(q, scale, zeros if bias is None else bias.detach().float().contiguous())

    def tile(self, first: int, width: int) -> "Narrow":
        """Output channels first .. first + width - 1, or what there is of them."""
        return Narrow(*(each[first : first + width] for each in self))

    def sums(self, q: torch.Tensor) -> torch.Tensor:
        """[m, k] int8 -> [m, n] int32, exact. Lies in memory that the next product overwrites."""
        sums = _scratch.take(len(q), len(self.q))
        return torch._int_mm(q, self.q.t(), out=sums)


class _Scratch(threading.local):
    """int32 sums live for one step only; fresh memory for each would cost more than filling it."""

    def __init__(self) -> None:
        self._flat = torch.empty(0, dtype=torch.int32)

    def take(self, m: int, n: int) -> torch.Tensor:
        if len(self._flat) < m * n:
            self._flat = torch.empty(m * n, dtype=torch.int32)
        return self._flat[: m * n].view(m, n)


_scratch = _Scratch()


class Int8Linear(nn.Module):
    """x W^T + b from int8 copies of W and x; takes and gives fp32 [..., k] -> [..., n]."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.narrow = Narrow.of(weight, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Exact up to the rounding of weights (once) and of inputs (per token)."""
        q, row = kernels().quantise(x.reshape(-1, x.shape[-1]))
        sums = self.narrow.sums(q)
        y = kernels().rescale(sums, row, self.narrow.scale, self.narrow.bias)
        return y.view(*x.shape[:-1], -1)
