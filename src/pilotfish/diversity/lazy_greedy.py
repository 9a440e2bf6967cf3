"""Lazy greedy for facility location, without an n x n matrix: its rows are computed on demand.

The value of a set S is the sum over the ground rows of max(0, highest cosine to a row of S). It is
monotone and submodular, so greedy reaches 1 - 1/e of the best value (Nemhauser, Wolsey & Fisher
1978), and an earlier gain is an upper bound of a later one: only the gains of rows with the highest
bounds are computed again (Minoux 1978).
"""

from dataclasses import dataclass, field

import numpy as np

from pilotfish.diversity.vectors import Vectors, blocks
from pilotfish.records import Floats, Ints

_DECIMALS = 4  # of a gain: rounding hides fp32 noise between rows of equal gain
_TABLE_BYTES = 512 << 20  # limit for the similarity rows in memory
_TILE = 2048  # rows and columns of a tile of first gains
_AGAIN = 16  # gains computed again before the best bound is searched


def first_gains(candidates: Vectors, ground: Vectors) -> Floats:
    """Return [c] the gain of every candidate for an empty selection.

    Args:
        candidates: [c, d] unit rows.
        ground: [g, d] unit rows; if it is the same array, half of the products are computed.
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
    """Exact lazy greedy over candidates [c, d] that cover ground rows [g, d], all unit rows.

    Gains are rounded to 1e-4; of equal gains the first candidate wins. Memory: 512 MB of similarity
    rows and 20 bytes per row; if 4·c·g bytes fit, no similarity is computed twice.
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
        self.known = np.full(
            len(self.candidates), -1
        )  # number of picks when the gain was computed; -1: never
        if whole:  # the table will hold all similarities
            self.bound = np.full(len(self.candidates), np.inf)  # [c] upper bounds of the gains
        else:
            self.bound = np.round(first_gains(self.candidates, self.ground), _DECIMALS)
            self.known[:] = 0

    def run(self, k: int) -> "Greedy":
        """Pick until there are k rows; k must not exceed the number of candidates."""
        while len(self.order) < k:
            bar = self.table.hold(self.bound)
            self._pick_while_sure(bar, k)
        return self

    def _pick_while_sure(self, bar: tuple[float, float], k: int) -> None:
        """Pick from the table until another candidate may gain more, or k are picked."""
        table, held = self.table, self.table.held
        while len(self.order) < k:
            lead = table.leader(self.bound)
            row = int(held[lead])
            if (self.bound[row], -row) < bar:
                return
            if self.known[row] == len(self.order):
                self._pick(row, table.rows[lead])
            else:
                self._update_gains()

    def _update_gains(self) -> None:
        """Compute the gains of the outdated candidates with the highest bounds."""
        table = self.table
        stale = np.flatnonzero(self.known[table.held] < len(self.order))
        if len(stale) > _AGAIN:
            bound = self.bound[table.held[stale]]
            stale = stale[np.argpartition(bound, len(bound) - _AGAIN)[len(bound) - _AGAIN :]]
        for slot in stale:  # one by one, so that the data of a row stays in the cache of a core
            np.subtract(table.rows[slot], self.cover, out=self.room)
            np.maximum(self.room, 0.0, out=self.room)
            self.bound[table.held[slot]] = round(float(self.room.sum()), _DECIMALS)
        self.known[table.held[stale]] = len(self.order)

    def _pick(self, row: int, similarity: Vectors) -> None:
        self.order.append(row)
        self.gain.append(float(self.bound[row]))
        np.maximum(similarity, self.cover, out=self.cover)
        self.bound[row] = -np.inf
        self.known[row] = len(self.candidates)  # never computed again


class _Table:
    """Similarity rows [held, g] of the candidates with the highest bounds."""

    def __init__(self, candidates: Vectors, ground: Vectors, room: int) -> None:
        self.candidates, self.ground = candidates, ground
        self.held: Ints = np.empty(0, dtype=np.int64)  # [room] candidate of each row
        self.rows = np.empty((room, len(ground)), dtype=np.float32)

    def hold(self, bound: Floats) -> tuple[float, float]:
        """Load the best candidates; return (bound, -position) of the best one outside the table."""
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
        """Return the slot of the highest bound; of equal bounds, that of the first candidate."""
        here = bound[self.held]
        best = np.flatnonzero(here == here.max())
        return int(best[self.held[best].argmin()])
