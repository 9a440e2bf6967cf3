"""Entropy: how undecided the model is before each scored token."""

import numpy as np

from pilotfish.engine.signals.tokens import Columns, Tokens


class Entropy:
    """Sum over scored tokens of the entropy of the predicted distribution, in nats."""

    facets = frozenset({"entropy"})

    def __init__(self, size: int = 0) -> None:
        del size

    def start(self, n: int) -> None:
        """Allocate n rows."""
        self._total = np.zeros(n, dtype=np.float64)
        self._count = np.zeros(n, dtype=np.int64)

    def block(self, tokens: Tokens) -> None:
        """Add m scored tokens."""
        tokens.add_to(self._total, tokens.facets["entropy"])
        np.add.at(self._count, tokens.rows, 1)

    def finish(self) -> Columns:
        """Return {"total": [n] nats, "count": [n] tokens}."""
        return {"total": self._total, "count": self._count}
