"""Random rows: the baseline of every comparison."""

from dataclasses import dataclass
from typing import ClassVar

from pilotfish.methods.base import measured_reasons
from pilotfish.methods.rankers import Direction, Ranker, Top
from pilotfish.methods.rankers.random import draws
from pilotfish.records import Floats, Need, RowFeatures, Texts


@dataclass(frozen=True)
class Random:
    """Highest keyed hash of (seed, row id) first: independent of file order, nested in k."""

    seed: int = 0

    needs: ClassVar[tuple[Need, ...]] = ()
    direction: ClassVar[Direction] = "high"
    reads_counts: ClassVar = False
    pool_relative: ClassVar = False
    formula: ClassVar = "hash(seed, row id) as a number in [0, 1)"
    cite: ClassVar = "arXiv:2410.09335, arXiv:2503.01807"

    def score(self, seen: RowFeatures) -> Floats:
        """Return the draw of each row [n], in [0, 1)."""
        return draws(seen.ids, self.seed)

    def reasons(self, seen: RowFeatures, scores: Floats) -> Texts:
        """Return [n] "": every row can be drawn."""
        return measured_reasons(self.needs, seen, scores)

    def ranker(self) -> Ranker:
        """Rank the highest draw first."""
        return Top("high")
