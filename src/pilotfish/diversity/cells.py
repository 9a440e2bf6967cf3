"""Near-duplicates among very many embeddings: rows look in the cells nearest to them only.

A cell holds the kept rows that lie nearest to one of some thousand pivots (an inverted file). What
that passes over is not guessed but measured on kept rows, in full.
"""

from dataclasses import dataclass

import numpy as np

from pilotfish.diversity.vectors import Vectors, blocks, products
from pilotfish.records import Floats, Ints

PROBES = 4  # cells in which a row looks
SAMPLE = 1_000  # kept rows that are set against all kept before them
_SEED = 0


@dataclass(eq=False)
class Cells:
    """Kept rows [k, d] by cell, in the order in which they were kept."""

    near: Ints  # [m, p] the cells nearest to each row, the nearest first
    values: Vectors  # [m, d] room for all rows, cell after cell
    rows: Ints  # [m] which row lies there
    begin: Ints  # [c] where each cell begins
    held: Ints  # [c] kept rows in it

    @classmethod
    def of(cls, values: Vectors, count: int, *, probes: int = PROBES) -> "Cells":
        """Empty cells around `count` of the unit rows [m, d]; rows are known by their place."""
        drawn = np.random.default_rng(_SEED).choice(len(values), count, replace=False)
        near = nearest(values, values[np.sort(drawn)], min(probes, count))
        begin = np.cumsum(np.bincount(near[:, 0], minlength=count)) - np.bincount(
            near[:, 0], minlength=count
        )
        held = np.zeros(count, dtype=np.int64)
        return cls(near, np.empty_like(values), np.empty(len(values), dtype=np.int64), begin, held)

    def add(self, rows: Ints, values: Vectors) -> None:
        """Keep `rows` [k], ascending, `values` [k, d], each in its nearest cell."""
        home = self.near[rows, 0]
        order = np.argsort(home, kind="stable")
        cells, many = np.unique(home, return_counts=True)
        at = np.repeat(self.begin[cells] + self.held[cells], many)
        at += np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
        self.values[at], self.rows[at] = values[order], rows[order]
        self.held[cells] += many

    def best(self, start: int, block: Vectors) -> tuple[Ints, Ints, Floats]:
        """Rows of a block [b, d] that begins at `start`, the kept row most like each in each cell
        where it looks, and their cosine; [q] each. Of equals the first kept.
        """
        near = self.near[start : start + len(block)]
        order = np.argsort(near, axis=None, kind="stable")
        cells, first = np.unique(near.ravel()[order], return_index=True)
        found = list[tuple[Ints, Ints, Floats]]()
        for cell, looking in zip(cells, np.split(order // near.shape[1], first[1:]), strict=True):
            held = slice(self.begin[cell], self.begin[cell] + self.held[cell])
            if held.start == held.stop:
                continue
            like = self.values[held] @ block[looking].T
            top = like.argmax(axis=0)
            cosine = like[top, np.arange(len(looking))].astype(np.float64)
            found.append((start + looking, self.rows[held][top], cosine))
        none = np.empty(0, dtype=np.int64)
        rows, keepers, cosines = zip(*(found or [(none, none, np.empty(0))]), strict=True)
        return np.concatenate(rows), np.concatenate(keepers), np.concatenate(cosines)


def nearest(values: Vectors, pivots: Vectors, probes: int) -> Ints:
    """[m, probes] the pivots [c, d] most like each row, the most like first."""
    out = np.empty((len(values), probes), dtype=np.int64)
    for start, stop, like in products(values, pivots):
        top = np.argpartition(-like, probes - 1, axis=1)[:, :probes]
        order = np.argsort(-np.take_along_axis(like, top, axis=1), axis=1, kind="stable")
        out[start:stop] = np.take_along_axis(top, order, axis=1)
    return out


def missed(values: Vectors, keeper: Ints, bar: float) -> float:
    """Share of the rows that ought to be dropped for a kept one, and were not.

    By a sample of kept rows, each set against all kept before it; those dropped are known. keeper
    [m]: the row each was dropped for, -1 where it was kept.
    """
    kept = np.flatnonzero(keeper < 0)
    some = np.random.default_rng(_SEED + 1).permutation(kept)[:SAMPLE]
    alike = np.zeros(len(some), dtype=bool)
    for start, stop in blocks(len(kept), values.shape[1]):
        here = kept[start:stop]
        alike |= ((values[some] @ values[here].T >= bar) & (here < some[:, None])).any(axis=1)
    wrong = float(alike.mean()) * len(kept) if len(some) else 0.0
    return wrong / max(wrong + len(keeper) - len(kept), 1.0)
