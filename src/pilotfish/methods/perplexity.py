"""Perplexity of the response or of the whole row; the direction must be given."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pilotfish.methods.base import exp, mean_nll, measured_reasons, ranker_for
from pilotfish.methods.rankers import Direction, Ranker
from pilotfish.records import Floats, Need, RowFeatures, Texts


@dataclass(frozen=True)
class Perplexity:
    """exp(mean NLL) over the named span. Marion et al. 2309.04564, Ankner et al. 2405.20541.

    There is no default direction: published successes keep the middle or the high end, depending
    on the corpus, and a dirty pool may need the low end. `middle` is centred on the median rank.
    `end` also scores the token that ends the response, so that truncated responses score high.
    """

    span: Literal["response", "full"] = "response"
    end: bool = False
    direction: Direction | None = None

    reads_counts: ClassVar = False
    pool_relative: ClassVar = False
    formula: ClassVar = "exp(mean NLL over the span); direction must be given"
    cite: ClassVar = "arXiv:2309.04564, arXiv:2405.20541, arXiv:2410.16208"

    @property
    def needs(self) -> tuple[Need, ...]:
        """One forward pass over the templated row."""
        return (Need("nll", span=self.span, aligned=False, end=self.end),)

    def score(self, seen: RowFeatures) -> Floats:
        """Return the perplexity [n], at least 1."""
        return exp(mean_nll(seen, self.needs[0]))

    def reasons(self, seen: RowFeatures, scores: Floats) -> Texts:
        """Return [n] why a row has no score, "" where it has one."""
        return measured_reasons(self.needs, seen, scores)

    def ranker(self) -> Ranker:
        """Rank by the direction. Raises UsageError if there is none."""
        return ranker_for(self.direction)
