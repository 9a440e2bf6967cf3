"""Rank at random, by a keyed hash of (seed, row id), independent of the file order."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pilotfish.methods.rankers.base import Ranking
from pilotfish.methods.rankers.top import Top
from pilotfish.records import Floats, Ints, Texts


def draws(ids: Sequence[str] | Texts, seed: int) -> Floats:
    """Return [n] a number in [0, 1) per id, which depends on the seed and that id only."""
    key = hashlib.blake2b(str(seed).encode(), digest_size=16).digest()
    names = (id.encode("utf-8", "surrogatepass") for id in ids)
    words = [hashlib.blake2b(name, digest_size=8, key=key).digest() for name in names]
    # A float64 holds 53 bits exactly. Equal draws go by the tie order.
    high = np.frombuffer(b"".join(words), dtype="<u8") >> np.uint64(11)
    return np.asarray(high.astype(np.float64) / 2.0**53)


@dataclass(frozen=True, eq=False)
class Random:
    """Rows with a finite score, highest draw first; prefixes are nested."""

    ids: Texts  # [n]
    seed: int = 0

    def rank(self, scores: Floats, tie: Ints) -> Ranking:
        """Rank the rows; of the scores [n], only whether they are finite counts."""
        drawn = np.where(np.isfinite(scores), draws(self.ids, self.seed), np.nan)
        return Top("high").rank(drawn, tie)
