"""Token NLL: the negative log-likelihood of every scored token, in half precision."""

import numpy as np

from pilotfish.engine.signals.nll import Nll
from pilotfish.engine.signals.tokens import Columns, RaggedBuilder, Tokens

_MOST = float(np.finfo(np.float16).max)


class TokenNll(Nll):
    """The nats of every scored token as fp16 (relative error below 5e-4), and their exact sum."""

    def start(self, n: int) -> None:
        """Allocate n rows."""
        super().start(n)
        self._builder = RaggedBuilder(n)

    def block(self, tokens: Tokens) -> None:
        """Add m scored tokens."""
        super().block(tokens)
        nats = np.minimum(tokens.facets["nll"], _MOST).astype(np.float16)
        self._builder.add(tokens, tokens=nats)

    def finish(self) -> Columns:
        """Return total and count as `nll`, and "tokens": ragged fp16 nats in the row's order."""
        return super().finish() | {"tokens": self._builder.ragged("tokens", np.float16)}
