"""What a loss may look at beside the student's logits: targets, a teacher in any form, the base."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Dense:
    """A teacher's whole distribution, as logits up to a constant (log-probabilities will do)."""

    logits: Tensor  # [m, u]; u may differ from the student's width, see `LossInputs.vocabulary`


@dataclass(frozen=True)
class TopK:
    """The k likeliest tokens of a teacher and the mass of all others as one bucket."""

    ids: Tensor  # [m, k] int64, distinct in a row
    logs: Tensor  # [m, k] log-probabilities, nats <= 0, not renormalised
    rest: Tensor  # [m] probability of everything else, >= 0


@dataclass(frozen=True)
class Sampled:
    """Draws from a teacher: an unbiased picture of its distribution (arXiv:2503.16870)."""

    ids: Tensor  # [m, k] int64; an id may stand more than once
    weights: Tensor  # [m, k] >= 0, rows sum to 1 (padding of a row weighs 0)


Teacher = Dense | TopK | Sampled


@dataclass(frozen=True)
class LossInputs:
    """m rows: supervised tokens of a language model, or texts to be classified (v classes).

    A loss names in `needs` the fields that it must be given; `targets` needs no naming.
    Slicing gives the same for some of the rows.
    """

    targets: Tensor | None = None  # [m] int64, the data's own token or class
    teacher: Teacher | None = None
    base: Tensor | None = None  # [m, v] logits of the frozen model that training started from
    gold: Tensor | None = None  # [m] bool, whether the target is vouched for by a person
    bias: Tensor | None = None  # [v] nats added to log p before a class is hardened (logconf)
    vocabulary: int | None = None  # columns from here on are padding, on both sides
    progress: float = 0.0  # share of the steps already done, in [0, 1]
    surpassed: bool = False  # whether the student already does better than its teacher

    def __getitem__(self, rows: slice) -> "LossInputs":
        """Those rows; what is not one value a row stays as it is."""
        per_row = {"targets", "teacher", "base", "gold"}
        sliced = {
            one.name: _over(getattr(self, one.name), lambda value: value[rows])
            for one in fields(self)
            if one.name in per_row
        }
        return replace(self, **sliced)

    def to(self, device: Any) -> "LossInputs":
        """The same with every tensor on another device."""
        moved = {
            one.name: _over(getattr(self, one.name), lambda value: value.to(device))
            for one in fields(self)
        }
        return replace(self, **moved)


def _over(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`change` on a tensor, or on every tensor of a teacher; anything else as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{one.name: _over(getattr(value, one.name), change) for one in fields(value)}
        )
    return value
