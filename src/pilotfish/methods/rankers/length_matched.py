"""The length-matched control: as many rows per source and response length as a selection has."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.methods.rankers.base import IN_SELECTION, UNMATCHED, UNSCORABLE, Ranking, best_first
from pilotfish.records import Floats, Ints, Texts

_MOST_BINS = 20
_ROWS_PER_BIN = 20  # in the mean; narrower bins run dry at once

Mask = NDArray[np.bool_]


def length_bins(lengths: Ints) -> Ints:
    """[n] bin of each length: at most 20 bins of about equal counts, edges on pool quantiles."""
    bins = int(np.clip(len(lengths) // _ROWS_PER_BIN, 1, _MOST_BINS))
    if bins == 1:
        return np.zeros(len(lengths), dtype=np.int64)
    shares = np.arange(1, bins) / bins
    edges = np.unique(np.quantile(lengths, shares, method="inverted_cdf"))
    return np.asarray(np.searchsorted(edges, lengths, side="left"), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class LengthMatched:
    """Draw, per source and length bin, as many rows as the selection keeps there.

    Disjoint from the selection where the pool allows it. A bin that runs dry borrows from the
    nearest bin of its source, then of any source, and only then takes rows of the selection;
    `notes` counts the `borrowed` and the `overlapping` rows, both 0 for an exact match.
    The scores ranked by are draws (see `rankers.random.draws`): highest first.
    """

    chosen: Ints  # [k] pool indices of the selection to match
    source: Texts | Ints  # [n] names, or numbers in the order of the names
    bins: Ints  # [n] length bin of every row

    def rank(self, scores: Floats, tie: Ints) -> Ranking:
        """Rank the matched rows by draw [n]; exactly k rows where the pool can give them."""
        usable = np.flatnonzero(np.isfinite(scores))
        by_draw = best_first(scores, tie, usable, "high")
        selected = np.zeros(len(scores), dtype=bool)
        selected[self.chosen] = True
        source = np.unique(self.source, return_inverse=True)[1]
        stratum = source * (int(self.bins.max(initial=0)) + 1) + self.bins  # [n]
        exact = _exact(by_draw[~selected[by_draw]], stratum, stratum[self.chosen])
        taken = np.zeros(len(scores), dtype=bool)
        taken[exact] = True
        self._fill(taken, by_draw, selected, stratum)
        return Ranking(
            by_draw[taken[by_draw]],
            _reasons(scores, taken, selected),
            {
                "borrowed": int(taken.sum()) - len(exact) - int((taken & selected).sum()),
                "overlapping": int((taken & selected).sum()),
            },
        )

    def _fill(self, taken: Mask, by_draw: Ints, selected: Mask, stratum: Ints) -> None:
        """Mend strata that ran dry, marking rows in `taken` [n]."""
        missing = _missing(stratum[self.chosen], stratum[taken])
        for outside, same_source in ((True, True), (True, False), (False, True), (False, False)):
            missing = [(label, short) for label, short in missing if short > 0]
            for index, (label, short) in enumerate(missing):
                model = self.chosen[np.argmax(stratum[self.chosen] == label)]
                free = by_draw[~taken[by_draw] & (selected[by_draw] != outside)]
                if same_source:
                    free = free[self.source[free] == self.source[model]]
                away = np.abs(self.bins[free] - self.bins[model])
                got = free[np.lexsort((np.arange(len(free)), away))][:short]
                taken[got] = True
                missing[index] = (label, short - len(got))


def _exact(free: Ints, stratum: Ints, wanted: Ints) -> Ints:
    """The first rows of `free` [m] (best first) in each stratum, as many as `wanted` [k] holds."""
    labels, need = np.unique(wanted, return_counts=True)
    free = free[np.isin(stratum[free], labels)]
    grouped = free[np.argsort(stratum[free], kind="stable")]
    starts = np.searchsorted(stratum[grouped], labels)
    slot = np.searchsorted(labels, stratum[grouped])
    place = np.arange(len(grouped)) - starts[slot]  # position inside its stratum
    return grouped[place < need[slot]]


def _missing(wanted: Ints, got: Ints) -> list[tuple[int, int]]:
    """(stratum, how many rows it still lacks), in the order of the labels.

    got: strata of the rows taken so far, all of them among the wanted ones.
    """
    labels, need = np.unique(wanted, return_counts=True)
    have = np.bincount(np.searchsorted(labels, got), minlength=len(labels))
    lacks = zip(labels.tolist(), (need - have).tolist(), strict=True)
    return [(label, short) for label, short in lacks if short > 0]


def _reasons(scores: Floats, taken: Mask, selected: Mask) -> Texts:
    reason = np.full(len(scores), UNMATCHED, dtype=object)
    reason[selected] = IN_SELECTION
    reason[~np.isfinite(scores)] = UNSCORABLE
    reason[taken] = ""
    return reason
