"""Sums a per-token loss block by block, so that full logits never exist at once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def summed(term: Callable[..., Tensor], rows: Tensor, *more: Any, block: int) -> Tensor:
    """Sum of `term` over all rows, at most `block` rows at a time. -> scalar nats.

    `rows` is [m, ...], and each of `more` can be sliced like it (a tensor, or `LossInputs`); `term`
    maps
    slices of them to [<= block] nats. With more than one block, what `term` makes inside is thrown
    away and made again for the backward pass: memory is one block's, time one more forward of
    `term`. The sum does not depend on `block` beyond fp32 rounding.
    """
    if block < 1:
        raise ValueError(f"a block holds at least one row, not {block}")
    if len(rows) <= block:
        return term(rows, *more).sum()

    def part(*piece: Any) -> Tensor:
        return term(*piece).sum()

    cuts = [slice(start, start + block) for start in range(0, len(rows), block)]
    return torch.stack(
        [
            checkpoint(
                part,
                *(one[cut] for one in (rows, *more)),
                use_reentrant=False,
                preserve_rng_state=False,
            )
            for cut in cuts
        ]
    ).sum()
