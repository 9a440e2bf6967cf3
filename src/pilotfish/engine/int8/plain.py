"""The pointwise steps around an integer product, in plain torch: what native.c says in C.

Runs where no C compiler is found. Without activation or exponential both give the same bits.
"""

import torch
import torch.nn.functional as F

SMALLEST = 1e-30  # below this a row counts as zero: 127 / it stays finite
ACTIVATIONS = ("gelu_tanh", "gelu", "silu", "relu")  # in the order of native.c
GROUP = 64  # columns that a rotation mixes, at most


class Plain:
    """Eager torch, several passes over memory: slow, but the same formulas."""

    name = "torch"

    def quantise(self, x: torch.Tensor, balance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x [m, k] -> q [m, k] int8 in [-127, 127] and scale [m] with q * scale ~ x * balance [k].

        A row that is not finite gets a nan scale, so whatever is made of it is nan.
        """
        x = x * balance
        widest = x.abs().amax(dim=1)  # nan where the row holds one
        finite = widest < float("inf")
        widest = widest.clamp(min=SMALLEST)
        steps = torch.where(finite, 127 / widest, 0.0)
        q = torch.where(finite[:, None], x * steps[:, None], 0.0).round().to(torch.int8)
        return q, torch.where(finite, widest / 127, float("nan"))

    def rescale(
        self, sums: torch.Tensor, row: torch.Tensor, column: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """sums [m, n] int32 * row [m] * column [n] + bias [n], in fp32."""
        return sums.float().mul_(row[:, None] * column).add_(bias)

    def activate(
        self,
        sums: torch.Tensor,
        row: torch.Tensor,
        column: torch.Tensor,
        bias: torch.Tensor,
        kind: str,
        balance: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """rotate(act(rescaled sums [m, n]) * balance [n]) -> q [m, n] int8, scale [m]."""
        return self._rotated(act(kind, self.rescale(sums, row, column, bias)), balance)

    def gate(
        self,
        sums: torch.Tensor,
        row: torch.Tensor,
        column: torch.Tensor,
        bias: torch.Tensor,
        kind: str,
        balance: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `activate`, but of act(first half) * second half of rescaled sums [m, 2n]."""
        first, second = self.rescale(sums, row, column, bias).chunk(2, dim=1)
        return self._rotated(act(kind, first) * second, balance)

    def _rotated(self, x: torch.Tensor, balance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.quantise(rotate(x * balance), torch.ones_like(balance))

    def accumulate(
        self,
        sums: torch.Tensor,
        row: torch.Tensor,
        column: torch.Tensor,
        bias: torch.Tensor,
        running: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        """A tile of logits [m, w] joins the running (largest [m], sum [m] of e^(logit - largest)).

        In place.
        """
        logits = self.rescale(sums, row, column, bias)
        top, total = running
        most = torch.maximum(top, logits.amax(dim=1))
        part = logits.sub_(most[:, None]).exp_().sum(dim=1)
        total.mul_((top - most).exp()).add_(part)
        top.copy_(most)


def rotate(x: torch.Tensor) -> torch.Tensor:
    """x [m, k] with groups of columns mixed by a Hadamard matrix of entries +1 and -1.

    A group is 4, 16 or 64 columns far apart, as often as 4 divides k; other widths stay as they
    are. What stands out in one column, as behind an activation, is spread over its group, and
    rounding by the largest of a row costs the others less (QuaRot, 2404.00456). Done twice it is
    `group(k)` times x.
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
    """How many of k columns a rotation mixes with each other: 1, 4, 16 or 64."""
    size = 1
    while size < GROUP and k % (4 * size) == 0:
        size *= 4
    return size


def act(kind: str, x: torch.Tensor) -> torch.Tensor:
    """One of `ACTIVATIONS` by name."""
    if kind == "gelu_tanh":
        return F.gelu(x, approximate="tanh")
    if kind == "gelu":
        return F.gelu(x)
    return F.silu(x) if kind == "silu" else F.relu(x)
