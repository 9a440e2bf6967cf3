"""Whole distributions: every log-probability over the real vocabulary, for small ones."""

import numpy as np

from pilotfish.engine.signals.nll import Nll
from pilotfish.engine.signals.tokens import Columns, Pieces, Tokens

_LEAST = float(np.finfo(np.float16).min)


class Dense(Nll):
    """Per scored token the log-probabilities of all ids, in half precision."""

    facets = frozenset({"nll", "logs"})

    def start(self, n: int) -> None:
        """Make room for n rows; the width is that of the first block."""
        super().start(n)
        self._pieces, self._width = Pieces(n), 1

    def block(self, tokens: Tokens) -> None:
        """Add m scored tokens."""
        super().block(tokens)
        logs = tokens.facets["logs"]
        self._width = logs.shape[1]
        self._pieces.add(tokens, logs=np.maximum(logs, _LEAST).astype(np.float16))

    def finish(self) -> Columns:
        """total and count as `nll`; ragged "logs" fp16 nats, as many a token as there are ids."""
        return super().finish() | {"logs": self._pieces.ragged("logs", np.float16, self._width)}
