"""Sums a per-token loss block by block, so that full logits never exist at once."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def summed(term: Callable[..., Tensor], *rows: Tensor, block: int) -> Tensor:
    """Sum of `term` over all rows, at most `block` rows at a time. -> scalar nats.

    Each of `rows` is [m, ...]; `term` maps slices of them to [<= block] nats. With more than one
    block, what `term` makes inside is thrown away and made again for the backward pass: memory is
    one block's, time one more forward of `term`. The sum does not depend on `block` beyond fp32
    rounding.
    """
    if block < 1:
        raise ValueError(f"a block holds at least one row, not {block}")
    if len(rows[0]) <= block:
        return term(*rows).sum()

    def part(*piece: Tensor) -> Tensor:
        return term(*piece).sum()

    pieces = zip(*(torch.split(one, block) for one in rows), strict=True)
    return torch.stack(
        [
            checkpoint(part, *piece, use_reentrant=False, preserve_rng_state=False)
            for piece in pieces
        ]
    ).sum()
