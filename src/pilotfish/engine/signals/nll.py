"""Negative log-likelihood: how many nats a row's scored tokens cost the model."""

import numpy as np

from pilotfish.engine.signals.tokens import Columns, Tokens
from pilotfish.records import Floats, Ints


class Nll:
    """Sum and count of -log p(token) per row.

    The log-sum-exp over the vocabulary runs in fp32 whatever the model's dtype; the sum over
    tokens is taken in float64 on the CPU, token after token, so its bits do not depend on blocks.
    """

    facets = frozenset({"nll"})

    def __init__(self, size: int = 0) -> None:
        del size  # one number per row whatever is asked

    def start(self, n: int) -> None:
        """Make room for n rows, each at 0 nats over 0 tokens."""
        self._total: Floats = np.zeros(n, dtype=np.float64)
        self._count: Ints = np.zeros(n, dtype=np.int64)

    def block(self, tokens: Tokens) -> None:
        """Add m scored tokens."""
        tokens.add_to(self._total, tokens.facets["nll"])
        np.add.at(self._count, tokens.rows, 1)

    def finish(self) -> Columns:
        """{"total": [n] nats, "count": [n] tokens}; nan or inf in a total is the model's own."""
        return {"total": self._total, "count": self._count}
