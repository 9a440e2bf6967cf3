"""Corrects a teacher where a person knows better: gold leads by a margin, the rest keeps its shape.

The idea is that of margin-corrected fine-tuning in NVIDIA's Model-Optimizer; the formula is ours.
"""

import torch
from torch import Tensor

from pilotfish.losses.divergences import floored


def corrected(
    log_q: Tensor, column: Tensor, gold: Tensor, *, margin: float, tokens: int | None = None
) -> Tensor:
    """Teacher moved towards gold targets that are not its own first choice. [m, w] -> [m, w] nats.

    q' = (1 - s) q + s * target with the smallest s that lets the target, which stands in `column`
    [m], lead every other token by `margin` in probability. Rows without `gold` [m], and those whose
    first choice is the target already, stay as they are. tokens: columns from there on hold many
    tokens each (the rest of a top-k teacher), so that none of those is a rival.
    """
    q, at = log_q.exp(), column[:, None]
    own = q.gather(-1, at)
    rival = q.scatter(-1, at, -1.0)[:, :tokens].amax(-1, keepdim=True)
    share = (margin + rival - own) / (1 + rival - own)
    moved = ((1 - share) * q).scatter_add(-1, at, share)
    wrong = gold[:, None] & (rival > own)
    return torch.where(wrong, floored(moved.clamp(min=0).log()), log_q)
