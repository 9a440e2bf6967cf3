"""Pick at random: a keyed hash of (seed, row id), whatever the order of the files."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pilotfish.methods.rankers.base import Ranking
from pilotfish.methods.rankers.top import Top
from pilotfish.records import Floats, Ints, Texts


def draws(ids: Sequence[str] | Texts, seed: int) -> Floats:
    """[n] one number in [0, 1) per id, a function of the seed and that id alone."""
    key = hashlib.blake2b(str(seed).encode(), digest_size=16).digest()
    words = [hashlib.blake2b(_bytes(id), digest_size=8, key=key).digest() for id in ids]
    # 53 bits fill a float64 exactly; equal draws are left to the tie order.
    high = np.frombuffer(b"".join(words), dtype="<u8") >> np.uint64(11)
    return np.asarray(high.astype(np.float64) / 2.0**53)


def _bytes(id: str) -> bytes:
    return id.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, eq=False)
class Random:
    """Rows with a finite score in the order of their draws, highest first; nested in k."""

    ids: Texts  # [n]
    seed: int = 0

    def rank(self, scores: Floats, tie: Ints) -> Ranking:
        """Rank scores [n], of which only finiteness counts."""
        return Top("high").rank(
            np.where(np.isfinite(scores), draws(self.ids, self.seed), np.nan), tie
        )
