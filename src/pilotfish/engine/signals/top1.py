"""Top-1 agreement: how often the model's likeliest token is the true one."""

import numpy as np

from pilotfish.engine.signals.tokens import Columns, Tokens


class Top1:
    """Hits and tokens per row; the total is nan where the model's logits are not finite."""

    facets = frozenset({"hit", "nll"})  # the nll shows whether the logits are finite

    def __init__(self, size: int = 0) -> None:
        del size

    def start(self, n: int) -> None:
        """Allocate n rows."""
        self._total = np.zeros(n, dtype=np.float64)
        self._count = np.zeros(n, dtype=np.int64)

    def block(self, tokens: Tokens) -> None:
        """Add m scored tokens."""
        finite = np.isfinite(tokens.facets["nll"])
        tokens.add_to(self._total, np.where(finite, tokens.facets["hit"], np.nan))
        np.add.at(self._count, tokens.rows, 1)

    def finish(self) -> Columns:
        """Return {"total": [n] hits, "count": [n] tokens}."""
        return {"total": self._total, "count": self._count}
