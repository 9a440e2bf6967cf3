"""Pointwise steps around an integer product, in plain torch; native.c holds the same in C.

Used where no C compiler is found. Both give the same bits where there is no transcendental
function.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

SMALLEST = 1e-30  # a row whose largest magnitude is smaller counts as zero: 127 / it stays finite
ACTIVATIONS = ("gelu_tanh", "gelu", "silu", "relu")  # in the order of native.c
GROUP = 64  # columns that a rotation mixes, at most


class Product(NamedTuple):
    """An integer matrix product, and the scales that make it fp32: sums * row * column + bias."""

    sums: torch.Tensor  # [m, n] int32
    row: torch.Tensor  # [m] scale of each row of the inputs
    column: torch.Tensor  # [n] scale of each output channel
    bias: torch.Tensor  # [n]


Quantised = tuple[torch.Tensor, torch.Tensor]  # q [m, k] int8 in [-127, 127], scale [m]


class TorchKernels:
    """Eager torch: slow, because every step passes over memory, but the same formulas as in C."""

    name = "torch"

    def quantise(self, x: torch.Tensor, balance: torch.Tensor) -> Quantised:
        """Round x [m, k] to int8 so that q * scale ~ x * balance [k].

        A row that is not finite gets a nan scale, so every result computed from it is nan.
        """
        x = x * balance
        widest = x.abs().amax(dim=1)  # nan where the row holds one
        finite = widest < float("inf")
        widest = widest.clamp(min=SMALLEST)
        steps = torch.where(finite, 127 / widest, 0.0)
        q = torch.where(finite[:, None], x * steps[:, None], 0.0).round().to(torch.int8)
        return q, torch.where(finite, widest / 127, float("nan"))

    def rescale(self, product: Product) -> torch.Tensor:
        """Return the product [m, n] in fp32."""
        sums, row, column, bias = product
        return sums.float().mul_(row[:, None] * column).add_(bias)

    def activate(self, product: Product, kind: str, balance: torch.Tensor) -> Quantised:
        """Quantise rotate(act(product [m, n]) * balance [n]).

        Args:
            product: The input of the activation.
            kind: One of ACTIVATIONS.
            balance: [n] factor of each column.
        """
        return self._rotated(act(kind, self.rescale(product)), balance)

    def gate(self, product: Product, kind: str, balance: torch.Tensor) -> Quantised:
        """As `activate`, for act(first half) * second half of the product [m, 2n]."""
        first, second = self.rescale(product).chunk(2, dim=1)
        return self._rotated(act(kind, first) * second, balance)

    def _rotated(self, x: torch.Tensor, balance: torch.Tensor) -> Quantised:
        return self.quantise(rotate(x * balance), torch.ones_like(balance))

    def accumulate(self, product: Product, running: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Add a tile of logits [m, w] to a running log-sum-exp, in place.

        Args:
            product: The logits.
            running: Largest logit [m] so far, and the sum [m] of e^(logit - largest).
        """
        logits = self.rescale(product)
        top, total = running
        most = torch.maximum(top, logits.amax(dim=1))
        part = logits.sub_(most[:, None]).exp_().sum(dim=1)
        total.mul_((top - most).exp()).add_(part)
        top.copy_(most)


def rotate(x: torch.Tensor) -> torch.Tensor:
    """Mix groups of columns of x [m, k] by a Hadamard matrix with entries +1 and -1.

    A group has 4, 16 or 64 columns far apart, as often as 4 divides k; other widths stay as they
    are. An outlier column, as found behind an activation, is spread over its group, so rounding by
    the largest entry of a row costs the other columns less (QuaRot, arXiv:2404.00456). Applied
    twice, it multiplies x by `group(k)`.
    """
    m, k = x.shape
    done = 1
    while done < group(k):
        a, b, c, d = x.view(m, done, 4, -1).unbind(2)
        mixed = (a + b) + (c + d), (a - b) + (c - d), (a + b) - (c + d), (a - b) - (c - d)
        x = torch.stack(mixed, dim=2).view(m, k)
        done *= 4
    return x


def group(k: int) -> int:
    """Return how many of k columns a rotation mixes with each other: 1, 4, 16 or 64."""
    size = 1
    while size < GROUP and k % (4 * size) == 0:
        size *= 4
    return size


def act(kind: str, x: torch.Tensor) -> torch.Tensor:
    """Apply one of `ACTIVATIONS` by name."""
    if kind == "gelu_tanh":
        return F.gelu(x, approximate="tanh")
    if kind == "gelu":
        return F.gelu(x)
    return F.silu(x) if kind == "silu" else F.relu(x)
