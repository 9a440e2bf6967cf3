"""Labels a weak model wrote: the table, and the filters that decide which of them are learnt."""

from pilotfish.labels import making
from pilotfish.labels.candidates import Candidates, Filter, Kept
from pilotfish.labels.confidence import Confidence
from pilotfish.labels.consistency import Consistency
from pilotfish.labels.knn import Knn
from pilotfish.labels.refill import Refill
from pilotfish.labels.table import ABSTAINED, FAILED, FILTERED, OK, STATUSES, Labels
from pilotfish.labels.trust import Trust

__all__ = [
    "ABSTAINED",
    "FAILED",
    "FILTERED",
    "FILTERS",
    "OK",
    "STATUSES",
    "Candidates",
    "Filter",
    "Kept",
    "Labels",
    "Refill",
    "make_filter",
]

FILTERS: dict[str, type[Filter]] = {
    "confidence": Confidence,
    "consistency": Consistency,
    "knn": Knn,
    "trust": Trust,
}

HELPERS = {"candidates", "heads", "making", "refill", "table"}


def make_filter(text: str) -> Filter:
    """The filter of a text: `confidence(keep=0.8)`; UsageError where it is wrong."""
    made: Filter = making.build(FILTERS, text)
    return made
