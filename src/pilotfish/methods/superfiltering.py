"""Superfiltering as published: IFD by a small model, on text without a chat template."""

from dataclasses import dataclass
from typing import ClassVar

from pilotfish.methods.base import ifd, mean_nll, measured_reasons, ranker_for
from pilotfish.methods.rankers import Direction, Gate, Ranker
from pilotfish.records import Floats, Need, RowFeatures, Texts


@dataclass(frozen=True)
class Superfiltering:
    """Keep responses the model finds hardest given their instruction. Li et al. 2024, 2402.00530.

    Departures: an exception or empty response is unscorable, not 0; k is exact, not a share of a
    literal 52,002; ties go by content hash, not by position in the file.
    """

    direction: Direction = "high"
    ceiling: float = 1.0  # strictly below: an instruction that does not help is a mismatched pair

    needs: ClassVar = (
        Need("nll", text="superfiltering", given="prompt"),
        Need("nll", text="superfiltering", given="nothing"),
    )
    reads_counts: ClassVar = False
    pool_relative: ClassVar = False
    formula: ClassVar = "exp(L_c - L_a), L = mean response NLL given the prompt / alone; keep < 1"
    cite: ClassVar = "arXiv:2402.00530, tianyi-lab/Superfiltering"

    def score(self, seen: RowFeatures) -> Floats:
        """Return IFD [n], above 0; each mean runs over its own tokens, as published."""
        conditional, alone = self.needs
        return ifd(mean_nll(seen, conditional), mean_nll(seen, alone))

    def reasons(self, seen: RowFeatures, scores: Floats) -> Texts:
        """Return [n] why a row has no score, "" where it has one."""
        return measured_reasons(self.needs, seen, scores)

    def ranker(self) -> Ranker:
        """Rank the highest first, strictly below the ceiling."""
        return ranker_for(self.direction, Gate(below=self.ceiling))
