"""Draws from the model: an unbiased picture of each token's distribution in a few ids."""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from pilotfish.engine.signals.nll import Nll
from pilotfish.engine.signals.tokens import Columns, Pieces, Tokens
from pilotfish.records import Floats

DEFAULT_N = 64


class Sampled(Nll):
    """Per scored token n ids drawn from the distribution (RS-KD, arXiv:2503.16870), as counts.

    What is drawn depends on seed, the row's ids and the token's place alone.
    """

    facets = frozenset({"nll", "draws"})

    def __init__(self, size: int = 0, seed: int = 0) -> None:
        self.draws = size or DEFAULT_N
        self.seed = seed

    def uniforms(self, ids: NDArray[np.int32]) -> Floats:
        """[t, n] numbers in [0, 1) that decide the draws at every token of a passage [t]."""
        name = blake2b(f"{self.seed}:{len(ids)}:".encode(), digest_size=16)
        name.update(np.asarray(ids, dtype=np.int32).tobytes())
        key = np.frombuffer(name.digest(), dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key)).random((len(ids), self.draws))

    def start(self, n: int) -> None:
        """Make room for n rows."""
        super().start(n)
        self._pieces = Pieces(n)

    def block(self, tokens: Tokens) -> None:
        """Add m scored tokens."""
        super().block(tokens)
        ids, weights = counted(tokens.facets["draws"])
        self._pieces.add(tokens, draw_ids=ids, draw_weights=weights)

    def finish(self) -> Columns:
        """total and count as `nll`; ragged "draw_ids" int32 and "draw_weights" fp32, n a token:
        each id once with its share of the draws, then ids 0 of weight 0."""
        return super().finish() | {
            "draw_ids": self._pieces.ragged("draw_ids", np.int32, self.draws),
            "draw_weights": self._pieces.ragged("draw_weights", np.float32, self.draws),
        }


def counted(draws: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(ids, weights) [m, n] of draws [m, n]: equal ones together, ascending, padded with 0 of 0."""
    m, n = draws.shape
    ids = np.sort(draws, axis=1)
    first = np.ones((m, n), dtype=bool)
    first[:, 1:] = ids[:, 1:] != ids[:, :-1]
    kind = first.cumsum(axis=1) - 1  # which of its row's ids each draw is
    row = np.broadcast_to(np.arange(m)[:, None], (m, n))
    out, counts = np.zeros((m, n), dtype=np.int32), np.zeros((m, n), dtype=np.int64)
    out[row, kind] = ids
    np.add.at(counts, (row, kind), 1)
    return out, (counts / n).astype(np.float32)
