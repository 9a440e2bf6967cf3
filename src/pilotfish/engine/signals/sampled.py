"""Sampled: a few ids drawn from each token's distribution, an unbiased estimate of it."""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from pilotfish.engine.signals.nll import Nll
from pilotfish.engine.signals.tokens import Columns, RaggedBuilder, Tokens
from pilotfish.records import Floats

DEFAULT_N = 64


class Sampled(Nll):
    """Per scored token, counts of n ids drawn from the distribution (RS-KD, arXiv:2503.16870).

    The draws depend on the seed, the row's ids and the token's position, and on nothing else.
    """

    facets = frozenset({"nll", "draws"})

    def __init__(self, size: int = 0, seed: int = 0) -> None:
        self.draws = size or DEFAULT_N
        self.seed = seed

    def uniforms(self, ids: NDArray[np.int32]) -> Floats:
        """Return [t, n] numbers in [0, 1) that decide the draws at each token of `ids` [t]."""
        name = blake2b(f"{self.seed}:{len(ids)}:".encode(), digest_size=16)
        name.update(np.asarray(ids, dtype=np.int32).tobytes())
        key = np.frombuffer(name.digest(), dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key)).random((len(ids), self.draws))

    def start(self, n: int) -> None:
        """Allocate n rows."""
        super().start(n)
        self._builder = RaggedBuilder(n)

    def block(self, tokens: Tokens) -> None:
        """Add m scored tokens."""
        super().block(tokens)
        ids, weights = _counted(tokens.facets["draws"])
        self._builder.add(tokens, draw_ids=ids, draw_weights=weights)

    def finish(self) -> Columns:
        """Return total and count as `nll`, and ragged "draw_ids" int32 and "draw_weights" fp32.

        Both hold n entries per token: each id once with its share of the draws, padded with id 0
        of weight 0.
        """
        return super().finish() | {
            "draw_ids": self._builder.ragged("draw_ids", np.int32, self.draws),
            "draw_weights": self._builder.ragged("draw_weights", np.float32, self.draws),
        }


def _counted(draws: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return (ids, weights) [m, n]: equal draws merged, ids ascending, padded with 0 and 0."""
    m, n = draws.shape
    ids = np.sort(draws, axis=1)
    first = np.ones((m, n), dtype=bool)
    first[:, 1:] = ids[:, 1:] != ids[:, :-1]
    column = first.cumsum(axis=1) - 1  # of the output: the index of a draw's id in its row
    row = np.broadcast_to(np.arange(m)[:, None], (m, n))
    out, counts = np.zeros((m, n), dtype=np.int32), np.zeros((m, n), dtype=np.int64)
    out[row, column] = ids
    np.add.at(counts, (row, column), 1)
    return out, (counts / n).astype(np.float32)
