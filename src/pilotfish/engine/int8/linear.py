"""A linear layer whose weights are int8 per output channel and its inputs int8 per token."""

import threading
from typing import NamedTuple

import torch
from torch import nn

from pilotfish.engine.int8.native import kernels
from pilotfish.engine.int8.plain import group, rotate

# Sums of k products of two numbers within 127 stay within 31 bits below this k.
WIDEST = 2**17
_LEAST = 2.0**-20  # of the largest column; smaller ones are as good as zero


class QuantizedWeight(NamedTuple):
    """A weight matrix in int8: row n of the fp32 one is about q[n] * scale[n] * balance.

    Inputs are multiplied by `balance`, weights divided. A column of small weights gets a small
    factor, so that a large input there, which matters little, does not coarsen the whole token.
    """

    q: torch.Tensor  # [n, k] int8
    scale: torch.Tensor  # [n]
    bias: torch.Tensor  # [n], zeros where there is none
    balance: torch.Tensor  # [k] powers of two up to 1, so the product with it is exact

    @classmethod
    def of(cls, weight: torch.Tensor, bias: torch.Tensor | None = None) -> "QuantizedWeight":
        """Narrow `weight` [n, k]. A row that is not finite makes its channel nan."""
        weight = weight.detach().float()
        balance = _balance(weight)
        return cls(*kernels().quantise(weight, 1 / balance), _flat(bias, len(weight)), balance)

    @classmethod
    def rotated(cls, weight: torch.Tensor, bias: torch.Tensor | None = None) -> "QuantizedWeight":
        """The same for inputs that `activate` or `gate` made, which are rotated: so are these."""
        weight = weight.detach().float()
        balance = _balance(weight)
        turned = rotate(weight / balance) / group(weight.shape[1])
        made = kernels().quantise(turned, torch.ones_like(balance))
        return cls(*made, _flat(bias, len(weight)), balance)

    def tile(self, first: int, width: int) -> "QuantizedWeight":
        """Output channels first .. first + width - 1, or what there is of them."""
        here = slice(first, first + width)
        return QuantizedWeight(self.q[here], self.scale[here], self.bias[here], self.balance)

    def inputs(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x [m, k] -> what `sums` takes [m, k] int8, and a scale for each row [m]."""
        return kernels().quantise(x.float(), self.balance)

    def sums(self, q: torch.Tensor) -> torch.Tensor:
        """[m, k] int8 -> [m, n] int32, exact. Lies in memory that the next product overwrites."""
        sums = _scratch.take(len(q), len(self.q))
        return torch._int_mm(q, self.q.t(), out=sums)


def _flat(bias: torch.Tensor | None, n: int) -> torch.Tensor:
    return torch.zeros(n) if bias is None else bias.detach().float().contiguous()


def _balance(weight: torch.Tensor) -> torch.Tensor:
    """[k] the root of each column's size against the largest, as powers of two.

    Half way (in logarithms) between balancing nothing and balancing all: measured best on trained
    models with and without outlying channels. From weights alone, so it needs no sample of data.
    """
    size = weight.square().mean(dim=0).sqrt()
    share = (size / size.max()).nan_to_num(1.0).clamp(min=_LEAST)
    return torch.exp2((share.log2() / 2).round())


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
        self.narrow = QuantizedWeight.of(weight, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Exact up to the rounding of weights (once) and of inputs (per token)."""
        q, row = self.narrow.inputs(x.reshape(-1, x.shape[-1]))
        sums = self.narrow.sums(q)
        y = kernels().rescale(sums, row, self.narrow.scale, self.narrow.bias)
        return y.view(*x.shape[:-1], -1)
