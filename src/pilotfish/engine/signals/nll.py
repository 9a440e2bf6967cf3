"""NLL: the negative log-likelihood of a row's scored tokens, in nats."""

import numpy as np

from pilotfish.engine.signals.tokens import Columns, Tokens
from pilotfish.records import Floats, Ints


class Nll:
    """Sum and count of -log p(token) per row.

    The log-sum-exp over the vocabulary runs in fp32 for every model dtype. The sum over tokens is
    taken in float64 on the CPU, token after token, so its bits do not depend on blocks.
    """

    facets = frozenset({"nll"})

    def __init__(self, size: int = 0) -> None:
        del size  # one number per row

    def start(self, n: int) -> None:
        """Allocate n rows, each at 0 nats over 0 tokens."""
        self._total: Floats = np.zeros(n, dtype=np.float64)
        self._count: Ints = np.zeros(n, dtype=np.int64)

    def block(self, tokens: Tokens) -> None:
        """Add m scored tokens."""
        tokens.add_to(self._total, tokens.facets["nll"])
        np.add.at(self._count, tokens.rows, 1)

    def finish(self) -> Columns:
        """Return {"total": [n] nats, "count": [n] tokens}; nan or inf comes from the model."""
        return {"total": self._total, "count": self._count}
