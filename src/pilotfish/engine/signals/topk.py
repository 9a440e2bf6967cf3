"""Top-k: the k largest log-probabilities and the remaining mass, for distillation."""

import numpy as np

from pilotfish.engine.signals.nll import Nll
from pilotfish.engine.signals.tokens import Columns, RaggedBuilder, Tokens

_LEAST = float(np.finfo(np.float16).min)
DEFAULT_K = 64


class TopK(Nll):
    """Per scored token the k likeliest ids, their log-probabilities, and the remaining mass.

    Nothing is renormalised: with the rest as one more bucket the k + 1 masses add up to 1, up to
    half precision.
    """

    facets = frozenset({"nll", "top_ids", "top_logs"})

    def __init__(self, size: int = 0) -> None:
        self.k = size or DEFAULT_K

    def start(self, n: int) -> None:
        """Allocate n rows."""
        super().start(n)
        self._builder, self._width = RaggedBuilder(n), self.k

    def block(self, tokens: Tokens) -> None:
        """Add m scored tokens."""
        super().block(tokens)
        # another need of the pass may have requested a larger k
        ids, logs = (tokens.facets[name][:, : self.k] for name in ("top_ids", "top_logs"))
        self._width = ids.shape[1]  # below k where the vocabulary is smaller
        rest = np.maximum(1 - np.exp(logs.astype(np.float64)).sum(axis=1), 0)
        self._builder.add(
            tokens,
            top_ids=ids,
            top_logs=np.maximum(logs, _LEAST).astype(np.float16),
            rest=rest.astype(np.float16),
        )

    def finish(self) -> Columns:
        """Return total and count as `nll`, and ragged "top_ids", "top_logs" and "rest".

        "top_ids" int32 and "top_logs" fp16 nats hold k entries per token, likeliest first; "rest"
        holds one fp16 probability per token.
        """
        return super().finish() | {
            "top_ids": self._builder.ragged("top_ids", np.int32, self._width),
            "top_logs": self._builder.ragged("top_logs", np.float16, self._width),
            "rest": self._builder.ragged("rest", np.float16),
        }
