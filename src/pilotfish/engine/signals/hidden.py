"""Hidden: one pooled hidden state per row, for similarity and diversity."""

import numpy as np
from numpy.typing import NDArray

from pilotfish.engine.signals.tokens import Columns, Tokens


class Hidden:
    """Last-layer states (after the final norm) averaged with weights t / (1 + .. + t).

    Later tokens see more of the text and weigh more (RDS+, arXiv:2503.01807). A row's tokens
    arrive in one block. The vector is not normalised: similarities divide by its length.
    """

    facets = frozenset({"state"})

    def __init__(self, size: int = 0) -> None:
        del size

    def start(self, n: int) -> None:
        """Allocate n rows; the first block sets the width."""
        self._n = n
        self._count = np.zeros(n, dtype=np.int64)
        self._pooled: NDArray[np.float32] | None = None

    def block(self, tokens: Tokens) -> None:
        """Pool the m states of whole rows."""
        states = tokens.facets["state"]
        if self._pooled is None:
            self._pooled = np.full((self._n, states.shape[1]), np.nan, dtype=np.float32)
        rows, begin, size = np.unique(tokens.rows, return_index=True, return_counts=True)
        for row, start, length in zip(rows, begin, size, strict=True):
            weights = np.arange(1, length + 1) / (length * (length + 1) / 2)
            pooled = weights.astype(np.float32) @ states[start : start + length]
            self._pooled[row] = pooled
            self._count[row] = length

    def finish(self) -> Columns:
        """Return {"total": [n] Euclidean length, "count": [n] tokens, "state": [n, d] fp32}."""
        pooled = np.zeros((self._n, 0), np.float32) if self._pooled is None else self._pooled
        total = np.linalg.norm(pooled.astype(np.float64), axis=1)
        return {"total": total, "count": self._count, "state": pooled}
