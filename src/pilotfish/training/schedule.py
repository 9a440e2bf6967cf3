"""The learning rate of every step, as a share of its peak."""

import math
from typing import Literal

Shape = Literal["linear", "cosine", "constant"]


def factor(step: int, steps: int, *, warmup: int, shape: Shape) -> float:
    """Share of the peak in (0, 1] at `step` (0-based): rises through the warm-up, then falls.

    Neither the first nor the last step is wasted at 0.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if shape == "constant":
        return 1.0
    done = (step - warmup) / (steps - warmup)
    return 1 - done if shape == "linear" else (1 + math.cos(math.pi * done)) / 2
