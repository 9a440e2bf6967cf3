"""Rank from the middle: the rows around the median rank, outwards."""

from dataclasses import dataclass

import numpy as np

from pilotfish.methods.rankers.base import OPEN, Gate, Ranking, best_first
from pilotfish.records import Floats, Ints


@dataclass(frozen=True)
class Middle:
    """Every prefix is a window of ranks centred on the median of the eligible rows.

    The numbers of eligible rows above and below the window differ by at most one. The published
    middle (a slice from index int(0.33 n)) is not centred, and too short for budgets above 67%.
    """

    gate: Gate = OPEN

    def rank(self, scores: Floats, tie: Ints) -> Ranking:
        """Rank scores [n] from the median outwards, alternating between the two sides."""
        reason = self.gate.reasons(scores)
        rows = best_first(scores, tie, np.flatnonzero(reason == ""), "high")
        away = np.arange(len(rows)) - (len(rows) - 1) // 2  # [m] ranks from the centre
        return Ranking(rows[np.argsort(np.where(away > 0, 2 * away - 1, -2 * away))], reason)
