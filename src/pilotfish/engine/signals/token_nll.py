"""Per-token negative log-likelihood, kept in half precision."""

import numpy as np

from pilotfish.engine.signals.nll import Nll
from pilotfish.engine.signals.tokens import Columns, Pieces, Tokens

_MOST = float(np.finfo(np.float16).max)


class TokenNll(Nll):
    """The nats of every scored token as fp16 (relative error below 5e-4), and their exact sum."""

    def start(self, n: int) -> None:
        """Make room for n rows."""
        super().start(n)
        self._pieces = Pieces(n)

    def block(self, tokens: Tokens) -> None:
        """Add m scored tokens."""
        super().block(tokens)
        nats = np.minimum(tokens.facets["nll"], _MOST).astype(np.float16)
        self._pieces.add(tokens, tokens=nats)

    def finish(self) -> Columns:
        """total and count as `nll`; "tokens": ragged [n, t] fp16 nats in the row's order."""
        return super().finish() | {"tokens": self._pieces.ragged("tokens", np.float16)}
