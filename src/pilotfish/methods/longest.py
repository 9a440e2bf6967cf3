"""The longest responses: a control for scores that measure little but length."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pilotfish.methods.base import NO_RESPONSE
from pilotfish.methods.rankers import Direction, Ranker, Top
from pilotfish.records import Floats, Need, RowFeatures, Texts


@dataclass(frozen=True)
class Longest:
    """Most response tokens first (weak tokenizer, after truncation), without empty responses."""

    needs: ClassVar[tuple[Need, ...]] = ()
    direction: ClassVar[Direction] = "high"
    reads_counts: ClassVar = True
    pool_relative: ClassVar = False
    formula: ClassVar = "response tokens"
    cite: ClassVar = "arXiv:2410.09335"

    def score(self, seen: RowFeatures) -> Floats:
        """Return the response tokens [n] as floats, nan where there are none."""
        counts = seen.n_response_tokens.astype(np.float64)
        return np.where(counts > 0, counts, np.nan)

    def reasons(self, seen: RowFeatures, scores: Floats) -> Texts:
        """Return [n] `no_response_tokens` where the response is empty, else ""."""
        return np.where(np.isfinite(scores), "", NO_RESPONSE).astype(object)

    def ranker(self) -> Ranker:
        """Rank the longest first."""
        return Top("high")
