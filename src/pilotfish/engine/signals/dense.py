"""Dense: the log-probabilities of all ids at every scored token, for small vocabularies."""

import numpy as np

from pilotfish.engine.signals.nll import Nll
from pilotfish.engine.signals.tokens import Columns, RaggedBuilder, Tokens

_LEAST = float(np.finfo(np.float16).min)


class Dense(Nll):
    """Log-probabilities over the real vocabulary per scored token, in half precision."""

    facets = frozenset({"nll", "logs"})

    def start(self, n: int) -> None:
        """Allocate n rows; the first block sets the width."""
        super().start(n)
        self._builder, self._width = RaggedBuilder(n), 1

    def block(self, tokens: Tokens) -> None:
        """Add m scored tokens."""
        super().block(tokens)
        logs = tokens.facets["logs"]
        self._width = logs.shape[1]
        self._builder.add(tokens, logs=np.maximum(logs, _LEAST).astype(np.float16))

    def finish(self) -> Columns:
        """Return total and count as `nll`, and ragged "logs": v fp16 nats per token."""
        return super().finish() | {"logs": self._builder.ragged("logs", np.float16, self._width)}
