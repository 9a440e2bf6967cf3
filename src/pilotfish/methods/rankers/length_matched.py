"""The length-matched control: as many rows per source and response length as a selection has."""

from dataclasses import dataclass

import numpy as np

from pilotfish.methods.rankers.base import IN_SELECTION, UNMATCHED, UNSCORABLE, Ranking, best_first
from pilotfish.records import Floats, Ints, Mask, Texts

_MAX_BINS = 20
_ROWS_PER_BIN = 20  # on average; smaller bins run out of rows too often


def length_bins(lengths: Ints) -> Ints:
    """Return [n] the bin of each length: at most 20 bins of about equal size, by pool quantiles."""
    bins = int(np.clip(len(lengths) // _ROWS_PER_BIN, 1, _MAX_BINS))
    if bins == 1:
        return np.zeros(len(lengths), dtype=np.int64)
    shares = np.arange(1, bins) / bins
    edges = np.unique(np.quantile(lengths, shares, method="inverted_cdf"))
    return np.asarray(np.searchsorted(edges, lengths, side="left"), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class LengthMatched:
    """Draw as many rows per source and length bin as the selection has there.

    The rows are disjoint from the selection where the pool allows it. A bin without enough rows
    borrows from the nearest bin of its source, then of any source, and then takes rows of the
    selection; `notes` counts the `borrowed` and the `overlapping` rows, both 0 for an exact match.
    The scores are draws (see `rankers.random.draws`), highest first.
    """

    chosen: Ints  # [k] pool indices of the selection to match
    source: Texts | Ints  # [n] names, or numbers in the order of the names
    bins: Ints  # [n] length bin of every row

    def rank(self, scores: Floats, tie: Ints) -> Ranking:
        """Rank the matched rows by draw [n]; exactly k rows if the pool has enough."""
        by_draw = best_first(scores, tie, np.flatnonzero(np.isfinite(scores)), "high")
        selected = np.zeros(len(scores), dtype=bool)
        selected[self.chosen] = True
        source = np.unique(self.source, return_inverse=True)[1]
        stratum = source * (int(self.bins.max(initial=0)) + 1) + self.bins  # [n]
        exact = self._exact(by_draw[~selected[by_draw]], stratum)
        taken = np.zeros(len(scores), dtype=bool)
        taken[exact] = True
        self._fill(taken, by_draw, selected, stratum)
        reason = np.full(len(scores), UNMATCHED, dtype=object)
        reason[selected] = IN_SELECTION
        reason[~np.isfinite(scores)] = UNSCORABLE
        reason[taken] = ""
        overlapping = int((taken & selected).sum())
        borrowed = int(taken.sum()) - len(exact) - overlapping
        notes = {"borrowed": borrowed, "overlapping": overlapping}
        return Ranking(by_draw[taken[by_draw]], reason, notes)

    def _exact(self, free: Ints, stratum: Ints) -> Ints:
        """The first rows of `free` [m] (best first) per stratum, as many as the selection has."""
        labels, need = np.unique(stratum[self.chosen], return_counts=True)
        free = free[np.isin(stratum[free], labels)]
        grouped = free[np.argsort(stratum[free], kind="stable")]
        starts = np.searchsorted(stratum[grouped], labels)
        slot = np.searchsorted(labels, stratum[grouped])
        place = np.arange(len(grouped)) - starts[slot]  # position inside its stratum
        return grouped[place < need[slot]]

    def _fill(self, taken: Mask, by_draw: Ints, selected: Mask, stratum: Ints) -> None:
        """Take rows for the strata that have too few, and mark them in `taken` [n]."""
        labels, need = np.unique(stratum[self.chosen], return_counts=True)
        have = np.bincount(np.searchsorted(labels, stratum[taken]), minlength=len(labels))
        lacks = (need - have).tolist()  # rows that each stratum still needs
        for outside, same_source in ((True, True), (True, False), (False, True), (False, False)):
            for index, label in enumerate(labels.tolist()):
                if lacks[index] <= 0:
                    continue
                example = self.chosen[np.argmax(stratum[self.chosen] == label)]
                free = by_draw[~taken[by_draw] & (selected[by_draw] != outside)]
                if same_source:
                    free = free[self.source[free] == self.source[example]]
                distance = np.abs(self.bins[free] - self.bins[example])
                got = free[np.lexsort((np.arange(len(free)), distance))][: lacks[index]]
                taken[got] = True
                lacks[index] -= len(got)
