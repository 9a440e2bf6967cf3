"""What a forward pass can measure, one file each: reducers over blocks of logits.

A reducer sees a row's scored tokens in any number of blocks, so full logits never exist.
"""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pilotfish.records import Floats, Ints
from pilotfish.signals.nll import Nll


class Signal(Protocol):
    """start once, block as often as it takes, finish once."""

    def start(self, n: int) -> None:
        """Make room for n rows."""

    def block(self, logits: torch.Tensor, targets: torch.Tensor, rows: Ints) -> None:
        """Take in m scored tokens: logits [m, v], targets [m] ids, rows [m] in [0, n)."""

    def finish(self) -> dict[str, Floats | NDArray[np.int64]]:
        """Columns [n], among them `total` and `count`."""


SIGNALS: dict[str, type[Signal]] = {"nll": Nll}

__all__ = ["SIGNALS", "Nll", "Signal"]
