"""Lazy greedy for facility location without an n x n matrix: rows of it are made when needed.

Value of a set S: sum over the ground rows of max(0, greatest cosine to a row of S). It is monotone
and submodular, so greedy reaches 1 - 1/e of the best (Nemhauser, Wolsey & Fisher 1978) and a gain
once measured bounds every later one: only rows whose bound leads are measured again (Minoux 1978).
"""

from dataclasses import dataclass, field

import numpy as np

from pilotfish.diversity.vectors import Vectors, blocks
from pilotfish.records import Floats, Ints

_DECIMALS = 4  # of a gain: two rows alike only to each other gain the same, and fp32 blurs that
_TABLE_BYTES = 512 << 20  # similarity rows held at a time
_TILE = 2048  # rows a side of a tile of first gains
_AGAIN = 16  # gains measured again before the leader is looked for


def first_gains(candidates: Vectors, ground: Vectors) -> Floats:
    """[c] gain of every candidate while nothing is picked, from unit rows [c, d] and [g, d].

    Half the products where both are the same array.
    """
    total = np.zeros(len(candidates))
    same = candidates is ground
    for a in range(0, len(candidates), _TILE):
        for b in range(a if same else 0, len(ground), _TILE):
            tile = candidates[a : a + _TILE] @ ground[b : b + _TILE].T
            np.maximum(tile, 0.0, out=tile)
            total[a : a + _TILE] += tile @ np.ones(tile.shape[1], dtype=np.float32)  # fast row sums
            if same and a < b:
                total[b : b + _TILE] += tile.sum(axis=0)
    return total


@dataclass(eq=False)
class Greedy:
    """Exact lazy greedy over candidates [c, d] that cover ground rows [g, d], unit rows both.

    Gains are rounded to 1e-4, and equal ones go to the candidate that stands first.
    Memory: 512 MB of similarity rows and 20 bytes a row; where c·g·4 bytes fit in that, no
    similarity is computed twice.
    """

    candidates: Vectors
    ground: Vectors
    order: list[int] = field(default_factory=list)  # picked candidates
    gain: list[float] = field(default_factory=list)  # of each pick, non-increasing

    def __post_init__(self) -> None:
        self.cover = np.zeros(len(self.ground), dtype=np.float32)  # best similarity so far
        self.room = np.empty_like(self.cover)
        room = max(_AGAIN, _TABLE_BYTES // (4 * max(len(self.ground), 1)))
        whole = room >= len(self.candidates)
        self.table = _Table(self.candidates, self.ground, min(room, len(self.candidates)))
        self.known = np.full(len(self.candidates), -1)  # picks when it was measured; -1 never
        if whole:  # the table will hold what the first gains are made of
            self.bound = np.full(len(self.candidates), np.inf)  # [c] no gain is above
        else:
            self.bound = np.round(first_gains(self.candidates, self.ground), _DECIMALS)
            self.known[:] = 0

    def run(self, k: int) -> "Greedy":
        """Pick until there are k; k must not exceed the number of candidates."""
        while len(self.order) < k:
            bar = self.table.hold(self.bound)
            self._pick_while_sure(bar, k)
        return self

    def _pick_while_sure(self, bar: tuple[float, float], k: int) -> None:
        """Pick from the table until a candidate outside it might gain more, or k are picked."""
        table, held = self.table, self.table.held
        while len(self.order) < k:
            lead = table.leader(self.bound)
            row = int(held[lead])
            if (self.bound[row], -row) < bar:
                return
            if self.known[row] == len(self.order):
                self._pick(row, table.rows[lead])
            else:
                self._measure_again()

    def _measure_again(self) -> None:
        """Bring the gains up to date of the stale candidates whose bounds lead."""
        table = self.table
        stale = np.flatnonzero(self.known[table.held] < len(self.order))
        if len(stale) > _AGAIN:
            bound = self.bound[table.held[stale]]
            stale = stale[np.argpartition(bound, len(bound) - _AGAIN)[len(bound) - _AGAIN :]]
        for slot in stale:  # one by one: what is made of a row stays in the cache of a core
            np.subtract(table.rows[slot], self.cover, out=self.room)
            np.maximum(self.room, 0.0, out=self.room)
            self.bound[table.held[slot]] = round(float(self.room.sum()), _DECIMALS)
        self.known[table.held[stale]] = len(self.order)

    def _pick(self, row: int, similarity: Vectors) -> None:
        self.order.append(row)
        self.gain.append(float(self.bound[row]))
        np.maximum(similarity, self.cover, out=self.cover)
        self.bound[row] = -np.inf
        self.known[row] = len(self.candidates)  # never measured again


class _Table:
    """Similarity rows [held, g] of the candidates whose bounds lead."""

    def __init__(self, candidates: Vectors, ground: Vectors, room: int) -> None:
        self.candidates, self.ground = candidates, ground
        self.held: Ints = np.empty(0, dtype=np.int64)  # [room] candidate of each row
        self.rows = np.empty((room, len(ground)), dtype=np.float32)

    def hold(self, bound: Floats) -> tuple[float, float]:
        """Hold the leading candidates; returns (bound, -place) of the best one left outside."""
        room = len(self.rows)
        by_bound = np.lexsort((np.arange(len(bound)), -bound))
        lead = by_bound[:room]
        stay = np.isin(self.held, lead)
        new = lead[~np.isin(lead, self.held)]
        slots = np.flatnonzero(~stay) if len(self.held) else np.arange(room)
        if not len(self.held):
            self.held = np.empty(room, dtype=np.int64)
        self.held[slots] = new
        for start, stop in blocks(len(new), len(self.ground)):
            self.rows[slots[start:stop]] = self.candidates[new[start:stop]] @ self.ground.T
        if room == len(bound):
            return (-np.inf, 0.0)
        return float(bound[by_bound[room]]), -float(by_bound[room])

    def leader(self, bound: Floats) -> int:
        """Slot of the greatest bound; of equals, that of the candidate that stands first."""
        here = bound[self.held]
        best = np.flatnonzero(here == here.max())
        return int(best[self.held[best].argmin()])
