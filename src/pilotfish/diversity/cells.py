"""Approximate near-duplicates for very many embeddings: an inverted file of cells.

A cell holds the kept rows that are nearest to one of some thousand pivots. A row is compared with
the kept rows of the cells nearest to it. The share of duplicates that this misses is measured on a
sample, by comparing it with all kept rows.
"""

from dataclasses import dataclass

import numpy as np

from pilotfish.diversity.vectors import Vectors, blocks, products
from pilotfish.records import Floats, Ints

PROBES = 4  # cells that a row is compared with
SAMPLE = 1_000  # kept rows that are compared with all rows kept before them
_SEED = 0


@dataclass(eq=False)
class Cells:
    """Kept rows by cell, in the order in which they were kept."""

    near: Ints  # [m, p] the cells nearest to each row, nearest first
    values: Vectors  # [m, d] space for all rows, cell after cell
    rows: Ints  # [m] the row at each place
    begin: Ints  # [c] where each cell begins
    held: Ints  # [c] kept rows in it

    @classmethod
    def of(cls, values: Vectors, count: int, *, probes: int = PROBES) -> "Cells":
        """Make empty cells around randomly drawn pivots.

        Args:
            values: [m, d] unit rows; a row is identified by its position.
            count: The number of cells.
            probes: How many cells each row is compared with.
        """
        drawn = np.random.default_rng(_SEED).choice(len(values), count, replace=False)
        near = nearest(values, values[np.sort(drawn)], min(probes, count))
        begin = np.cumsum(np.bincount(near[:, 0], minlength=count)) - np.bincount(
            near[:, 0], minlength=count
        )
        held = np.zeros(count, dtype=np.int64)
        return cls(near, np.empty_like(values), np.empty(len(values), dtype=np.int64), begin, held)

    def add(self, rows: Ints, values: Vectors) -> None:
        """Add kept rows [k], in ascending order, with values [k, d], to their nearest cells."""
        home = self.near[rows, 0]
        order = np.argsort(home, kind="stable")
        cells, many = np.unique(home, return_counts=True)
        at = np.repeat(self.begin[cells] + self.held[cells], many)
        at += np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
        self.values[at], self.rows[at] = values[order], rows[order]
        self.held[cells] += many

    def best(self, start: int, block: Vectors) -> tuple[Ints, Ints, Floats]:
        """Find the most similar kept row in every cell near a row; of equals the first kept.

        Args:
            start: The position of the first row of the block.
            block: [b, d] unit rows.

        Returns:
            [q] positions of rows of the block, [q] the kept rows, and [q] their cosines.
        """
        near = self.near[start : start + len(block)]
        order = np.argsort(near, axis=None, kind="stable")
        cells, first = np.unique(near.ravel()[order], return_index=True)
        found = list[tuple[Ints, Ints, Floats]]()
        for cell, members in zip(cells, np.split(order // near.shape[1], first[1:]), strict=True):
            held = slice(self.begin[cell], self.begin[cell] + self.held[cell])
            if held.start == held.stop:
                continue
            like = self.values[held] @ block[members].T
            top = like.argmax(axis=0)
            cosine = like[top, np.arange(len(members))].astype(np.float64)
            found.append((start + members, self.rows[held][top], cosine))
        none = np.empty(0, dtype=np.int64)
        rows, keepers, cosines = zip(*(found or [(none, none, np.empty(0))]), strict=True)
        return np.concatenate(rows), np.concatenate(keepers), np.concatenate(cosines)


def nearest(values: Vectors, pivots: Vectors, probes: int) -> Ints:
    """Return [m, probes] the pivots [c, d] most similar to each row, most similar first."""
    out = np.empty((len(values), probes), dtype=np.int64)
    for start, stop, like in products(values, pivots):
        top = np.argpartition(-like, probes - 1, axis=1)[:, :probes]
        order = np.argsort(-np.take_along_axis(like, top, axis=1), axis=1, kind="stable")
        out[start:stop] = np.take_along_axis(top, order, axis=1)
    return out


def missed(values: Vectors, keeper: Ints, bar: float) -> float:
    """Estimate the share of duplicates that were kept, from a sample of the kept rows.

    Args:
        values: [m, d] unit rows.
        keeper: [m] the row that each was dropped for, -1 for a kept row.
        bar: The cosine from which a row is a duplicate.
    """
    kept = np.flatnonzero(keeper < 0)
    some = np.random.default_rng(_SEED + 1).permutation(kept)[:SAMPLE]
    alike = np.zeros(len(some), dtype=bool)
    for start, stop in blocks(len(kept), values.shape[1]):
        here = kept[start:stop]
        alike |= ((values[some] @ values[here].T >= bar) & (here < some[:, None])).any(axis=1)
    wrong = float(alike.mean()) * len(kept) if len(some) else 0.0
    return wrong / max(wrong + len(keeper) - len(kept), 1.0)
