"""Labels a weak model wrote: the table, and the filters that decide which of them are learnt."""

from pilotfish.labeling.filters import registry
from pilotfish.labeling.filters.base import Candidates, Filter, Kept
from pilotfish.labeling.filters.confidence import Confidence
from pilotfish.labeling.filters.consistency import Consistency
from pilotfish.labeling.filters.knn import Knn
from pilotfish.labeling.filters.refill import Refill
from pilotfish.labeling.filters.trust import Trust

__all__ = [
    "FILTERS",
    "Candidates",
    "Filter",
    "Kept",
    "Refill",
    "make_filter",
]

FILTERS: dict[str, type[Filter]] = {
    "confidence": Confidence,
    "consistency": Consistency,
    "knn": Knn,
    "trust": Trust,
}

HELPERS = {"base", "heads", "refill", "registry"}


def make_filter(text: str) -> Filter:
    """The filter of a text: `confidence(keep=0.8)`; UsageError where it is wrong."""
    made: Filter = registry.build(FILTERS, text)
    return made
