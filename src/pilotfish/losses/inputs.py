"""What all losses share: their inputs, checks of their settings, and summation in blocks.

Letters of shapes: m rows (supervised tokens of a language model, or texts of a classifier), v
columns of the student's head, w of them real, u columns of the teacher's head, k tokens of a
stored teacher.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pilotfish.errors import UsageError, unknown_name


@dataclass(frozen=True)
class Dense:
    """The whole distribution of a teacher, as logits up to a constant (or log-probabilities)."""

    logits: Tensor  # [m, u]; u may differ from v, see `LossInputs.vocabulary`


@dataclass(frozen=True)
class TopK:
    """The k likeliest tokens of a teacher, and the mass of all others as one bucket."""

    ids: Tensor  # [m, k] int64, distinct in a row
    logs: Tensor  # [m, k] log-probabilities, nats <= 0, not renormalised
    rest: Tensor  # [m] probability of everything else, >= 0


@dataclass(frozen=True)
class Sampled:
    """Draws from a teacher: an unbiased sample of its distribution (arXiv:2503.16870)."""

    ids: Tensor  # [m, k] int64; an id may occur more than once
    weights: Tensor  # [m, k] >= 0, rows sum to 1 (padding of a row weighs 0)


Teacher = Dense | TopK | Sampled


@dataclass(frozen=True)
class LossInputs:
    """What a loss receives besides the student's logits, for m rows.

    A loss lists in `needs` the fields that must be filled; `targets` is not listed. Slicing gives
    the inputs of some of the rows.
    """

    targets: Tensor | None = None  # [m] int64, the token or class of the data
    teacher: Teacher | None = None
    base: Tensor | None = None  # [m, v] logits of the frozen model that training started from
    trusted: Tensor | None = None  # [m] bool, whether a person confirmed the target
    bias: Tensor | None = None  # [v] nats added to log p before a class is hardened (logconf)
    vocabulary: int | None = None  # columns from here on are padding, in both heads
    progress: float = 0.0  # share of the steps done, in [0, 1]
    surpassed: bool = False  # whether the student already does better than its teacher

    def __getitem__(self, rows: slice) -> "LossInputs":
        """Return the inputs of some rows; fields without a row axis stay as they are."""
        return replace(
            self,
            **{
                name: _map_tensors(getattr(self, name), lambda value: value[rows])
                for name in ("targets", "teacher", "base", "trusted")
            },
        )

    def to(self, device: Any) -> "LossInputs":
        """Copy every tensor to a device."""
        moved: LossInputs = _map_tensors(self, lambda value: value.to(device))
        return moved


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply `change` to a tensor, or to every tensor of a dataclass; return all else unchanged."""
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        names = [one.name for one in fields(value)]
        return replace(
            value, **{name: _map_tensors(getattr(value, name), change) for name in names}
        )
    return value


def summed(term: Callable[..., Tensor], rows: Tensor, *more: Any, block: int) -> Tensor:
    """Sum a loss over all rows, block by block, so that full logits never exist at once.

    With more than one block, the intermediate results of `term` are freed and computed again in
    the backward pass: memory is that of one block, time is one more forward of `term`. The sum
    does not depend on `block` beyond fp32 rounding.

    Args:
        term: Maps slices of `rows` and `more` to [<= block] nats.
        rows: [m, ...], for example hidden states.
        more: Values that can be sliced like `rows`: tensors [m, ...] or `LossInputs`.
        block: Number of rows of one block, at least 1.

    Returns:
        Scalar nats.

    Raises:
        ValueError: `block` is below 1.
    """
    if block < 1:
        raise ValueError(f"a block holds at least one row, not {block}")
    if len(rows) <= block:
        return term(rows, *more).sum()

    def part(*piece: Any) -> Tensor:
        return term(*piece).sum()

    sums = []
    for start in range(0, len(rows), block):
        pieces = [one[start : start + block] for one in (rows, *more)]
        sums.append(checkpoint(part, *pieces, use_reentrant=False, preserve_rng_state=False))
    return torch.stack(sums).sum()


def check_number(
    loss: str,
    setting: str,
    value: Any,
    *,
    low: float = 0.0,
    high: float = math.inf,
    above: bool = False,
) -> None:
    """Raise UsageError unless a setting of a loss is a finite number in [low, high].

    Args:
        loss: Name of the loss, for the message.
        setting: Name of the setting, for the message.
        value: What the user wrote.
        low: Smallest value allowed.
        high: Largest value allowed.
        above: Whether `low` itself is excluded.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and math.isfinite(value) and low <= value <= high and not (above and value == low):
        return
    bound = f"above {low:g}" if above else f"at least {low:g}"
    upper = "" if math.isinf(high) else f" and at most {high:g}"
    raise UsageError(
        f"{setting} of {loss} must be a number {bound}{upper}, not {value!r}",
        hint=f"write {loss}({setting}=...)",
    )


def check_choice(loss: str, setting: str, value: Any, known: Sequence[str]) -> None:
    """Raise UsageError unless a setting of a loss is one of the known words."""
    if value not in known:
        raise unknown_name(f"{setting} of {loss}", str(value), known)


def check_flag(loss: str, setting: str, value: Any) -> None:
    """Raise UsageError unless a setting of a loss is true or false."""
    if not isinstance(value, bool):
        raise UsageError(f"{setting} of {loss} must be true or false, not {value!r}")
