"""IFD with the same response tokens in both means, in the chat template."""

from dataclasses import dataclass
from typing import ClassVar

from pilotfish.methods.base import ifd, mean_nll, measured_reasons, ranker_for
from pilotfish.methods.rankers import Direction, Gate, Ranker
from pilotfish.records import Floats, Need, RowFeatures, Texts


@dataclass(frozen=True)
class Ifd:
    """Instruction-following difficulty over aligned tokens. After 2308.12032 and 2402.00530.

    Departure: the published means run over n and n - 1 tokens, which biases short responses; here
    both run over the same tokens. Do not compare its values with `superfiltering`: the two rank
    rows differently.
    """

    direction: Direction = "high"
    ceiling: float = 1.0  # strictly below: an instruction that does not help is a mismatched pair

    needs: ClassVar = (Need("nll", given="prompt"), Need("nll", given="nothing"))
    reads_counts: ClassVar = False
    pool_relative: ClassVar = False
    formula: ClassVar = "exp(L_c - L_a) over the same response tokens; keep < 1"
    cite: ClassVar = "arXiv:2308.12032, arXiv:2402.00530"

    def score(self, seen: RowFeatures) -> Floats:
        """Return IFD [n], above 0; 1 where the prompt changes nothing."""
        conditional, alone = self.needs
        return ifd(mean_nll(seen, conditional), mean_nll(seen, alone))

    def reasons(self, seen: RowFeatures, scores: Floats) -> Texts:
        """Return [n] why a row has no score, "" where it has one."""
        return measured_reasons(self.needs, seen, scores)

    def ranker(self) -> Ranker:
        """Rank the highest first, strictly below the ceiling."""
        return ranker_for(self.direction, Gate(below=self.ceiling))
