"""Rank from one end: the highest or the lowest scores inside a gate."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pilotfish.methods.rankers.base import OPEN, Gate, Ranking, best_first
from pilotfish.records import Floats, Ints


@dataclass(frozen=True)
class Top:
    """Best score first. Prefixes are nested: a smaller budget keeps a subset."""

    direction: Literal["high", "low"] = "high"
    gate: Gate = OPEN

    def rank(self, scores: Floats, tie: Ints) -> Ranking:
        """Rank scores [n], equal scores by `tie` [n] ascending."""
        reason = self.gate.reasons(scores)
        order = best_first(scores, tie, np.flatnonzero(reason == ""), self.direction)
        return Ranking(order, reason)
