"""A linear layer with int8 weights (per output channel) and int8 inputs (per token)."""

import threading
from typing import NamedTuple

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from pilotfish.engine.int8.native import kernels
from pilotfish.engine.int8.plain import Product, Quantised, group, rotate

# Below this k, sums of k products of two numbers within 127 stay within 31 bits.
WIDEST = 2**17
_LEAST = 2.0**-20  # of the largest column; smaller columns count as zero

Weights = tuple[torch.Tensor, torch.Tensor | None]  # weight [n, k], bias [n] or None


def weights_of(module: nn.Module) -> Weights | None:
    """Return weight [n, k] and bias of a linear layer, None of any other module."""
    if type(module) is nn.Linear:
        return module.weight, module.bias
    if type(module) is Conv1D:  # GPT-2 keeps [k, n]
        weight, bias = module.get_parameter("weight"), module.get_parameter("bias")
        return weight.t(), bias
    return None


class QuantizedWeight(NamedTuple):
    """An int8 weight matrix: row n of the fp32 one is about q[n] * scale[n] * balance.

    Inputs are multiplied by `balance`, weights divided by it. A column of small weights gets a
    small factor, so that a large input there, which matters little, does not coarsen the token.
    """

    q: torch.Tensor  # [n, k] int8
    scale: torch.Tensor  # [n]
    bias: torch.Tensor  # [n], zeros where the layer has none
    balance: torch.Tensor  # [k] powers of two up to 1, so the product with it is exact

    @classmethod
    def of(
        cls, weight: torch.Tensor, bias: torch.Tensor | None = None, *, rotated: bool = False
    ) -> "QuantizedWeight":
        """Quantise a weight matrix; a row that is not finite makes its channel nan.

        Args:
            weight: [n, k].
            bias: [n], None for zeros.
            rotated: Whether the inputs will be rotated, as those of `activate` and `gate` are.
        """
        weight = weight.detach().float()
        balance = _balance(weight)
        if rotated:
            turned = rotate(weight / balance) / group(weight.shape[1])
            q, scale = kernels().quantise(turned, torch.ones_like(balance))
        else:
            q, scale = kernels().quantise(weight, 1 / balance)
        wide = torch.zeros(len(weight)) if bias is None else bias.detach().float().contiguous()
        return cls(q, scale, wide, balance)

    def tile(self, first: int, width: int) -> "QuantizedWeight":
        """Return output channels first .. first + width - 1, fewer at the end."""
        here = slice(first, first + width)
        return QuantizedWeight(self.q[here], self.scale[here], self.bias[here], self.balance)

    def inputs(self, x: torch.Tensor) -> Quantised:
        """Quantise inputs x [m, k] for `product`."""
        return kernels().quantise(x.float(), self.balance)

    def product(self, q: torch.Tensor, row: torch.Tensor) -> Product:
        """Multiply quantised inputs q [m, k] with scales row [m] by the weights, exactly.

        The sums lie in memory that the next product of this thread overwrites.
        """
        sums = _scratch.take(len(q), len(self.q))
        return Product(torch._int_mm(q, self.q.t(), out=sums), row, self.scale, self.bias)


def _balance(weight: torch.Tensor) -> torch.Tensor:
    """Return [k] the root of each column's size relative to the largest, as powers of two.

    Half way (in logarithms) between balancing nothing and balancing all: measured best on trained
    models with and without outlier channels. It needs the weights only, no sample of data.
    """
    size = weight.square().mean(dim=0).sqrt()
    share = (size / size.max()).nan_to_num(1.0).clamp(min=_LEAST)
    return torch.exp2((share.log2() / 2).round())


class _Scratch(threading.local):
    """Memory for int32 sums, which live for one step; allocating it again would cost more."""

    def __init__(self) -> None:
        self._flat = torch.empty(0, dtype=torch.int32)

    def take(self, m: int, n: int) -> torch.Tensor:
        if len(self._flat) < m * n:
            self._flat = torch.empty(m * n, dtype=torch.int32)
        return self._flat[: m * n].view(m, n)


_scratch = _Scratch()


class Int8Linear(nn.Module):
    """x W^T + b from int8 copies of W and x; fp32 [..., k] -> [..., n]."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.narrow = QuantizedWeight.of(weight, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the product, exact up to the rounding of weights (once) and inputs (per token)."""
        q, row = self.narrow.inputs(x.reshape(-1, x.shape[-1]))
        y = kernels().rescale(self.narrow.product(q, row))
        return y.view(*x.shape[:-1], -1)
