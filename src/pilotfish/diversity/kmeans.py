"""k-means: Lloyd's algorithm from k-means++ seeds (Arthur & Vassilvitskii 2007), in blocks.

Every step is exact: each row is assigned to its nearest centre, each centre moves to the mean of
its rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.diversity.vectors import Metric, Vectors, blocks, gather, products, squares
from pilotfish.records import Floats, Ints, Mask, Texts

_PRODUCT_BYTES = 640 << 20  # limit for the products of the rows that seeds are drawn from
_SEED_ROWS = 12  # rows per cluster that seeds are drawn from


@dataclass(frozen=True, eq=False)
class Clusters:
    """The clusters, and the cluster of every row."""

    label: Ints  # [n] cluster of each row, -1 for a row without one
    distance: Floats  # [n] euclidean, from each row to its centre; nan without one
    centres: Vectors  # [c, d]; under the cosine metric in the space of unit rows
    size: Ints  # [c] rows of each cluster
    inertia: float  # sum of squared distances
    steps: int  # number of Lloyd steps
    settled: bool  # the last step changed no assignment
    reason: Texts  # [n] "" for a clustered row, else why it has no cluster


def k_means(
    vectors: NDArray[Any],
    clusters: int,
    tie: Ints,
    *,
    eligible: Mask | None = None,
    metric: Metric = "euclidean",
    steps: int = 20,
    train_rows: int | None = None,
    seed: int = 0,
    scratch: Path | None = None,
) -> Clusters:
    """Cluster rows; labels count from 0 in the order of the seeds.

    A row at equal distance from two centres goes to the earlier one. A centre without rows moves
    to the row farthest from its own centre (one row each, equal distances by `tie`), unless that
    distance is 0: with fewer distinct rows than clusters, some clusters stay empty. Memory: 4·n·d
    bytes (see `gather`), as much again for a sample of all rows, 40 bytes per row, and at most
    0.7 GB for the seeds, which are drawn from at most 12 rows per cluster.

    Args:
        vectors: [n, d] embeddings.
        clusters: c, how many clusters to make.
        tie: [n] distinct ranks that decide between equal rows.
        eligible: [n] which rows may be used; None for all.
        metric: "cosine" scales rows to length 1 first.
        steps: The highest number of Lloyd steps; they end early if no row changes its cluster.
        train_rows: How many rows to draw for the steps; None takes all. 256 per cluster are enough
            for embeddings. All rows are assigned in the end.
        seed: The seed of all draws.
        scratch: A folder for temporary files; None keeps the vectors in memory.

    Raises:
        UsageError: There are fewer than c usable rows.
    """
    rows = gather(vectors, tie, eligible=eligible, metric=metric, scratch=scratch)
    rows.require(clusters, "clusters")
    rng = np.random.default_rng(seed)
    middle = _centred(rows.values)  # shorter vectors have smaller rounding errors
    sample = _sample(rows.values, train_rows or len(rows), clusters, rng)
    centres = _seeds(_sample(sample, _SEED_ROWS * clusters, clusters, rng), clusters, rng)
    made, settled = _lloyd(sample, centres, steps)
    label, distance = _assign(rows.values, squares(rows.values), centres)
    return Clusters(
        label=rows.spread(label, -1),
        distance=rows.spread(np.sqrt(distance), np.nan),
        centres=centres + middle,
        size=np.bincount(label, minlength=clusters),
        inertia=float(distance.sum()),
        steps=made,
        settled=settled,
        reason=rows.reason,
    )


def _centred(values: Vectors) -> Vectors:
    """Subtract the mean row [d] in place and return it."""
    total = np.zeros(values.shape[1])
    for start, stop in blocks(*values.shape):
        total += values[start:stop].sum(axis=0, dtype=np.float64)
    middle = (total / len(values)).astype(np.float32)
    for start, stop in blocks(*values.shape):
        values[start:stop] -= middle
    return middle


def _sample(values: Vectors, many: int, least: int, rng: np.random.Generator) -> Vectors:
    many = max(many, least)
    if many >= len(values):
        return values
    return values[np.sort(rng.choice(len(values), many, replace=False))]


def _seeds(values: Vectors, clusters: int, rng: np.random.Generator) -> Vectors:
    """Greedy k-means++: of 2 + ln c rows drawn by squared distance, take the best one."""
    distances = _Distances(values)
    chosen = [int(rng.integers(len(values)))]
    distance = distances.to(np.array(chosen))[0]
    while len(chosen) < clusters:
        distance[chosen] = 0.0
        drawn = _draw(distance, 2 + int(np.log(clusters)), rng)
        if not len(drawn):  # every row equals a seed: take the first row that is not one
            drawn = np.setdiff1d(np.arange(len(values)), chosen)[:1]
        left = np.minimum(distances.to(drawn), distance)  # [drawn, m]
        best = int(left.sum(axis=1, dtype=np.float64).argmin())
        distance = left[best]
        chosen.append(int(drawn[best]))
    return values[chosen]


class _Distances:
    """Squared distances among rows [m, d]; all products are computed at once if they fit."""

    def __init__(self, values: Vectors) -> None:
        self.values = values
        self.square = squares(values).astype(np.float32)
        self.products = values @ values.T if 4 * len(values) ** 2 <= _PRODUCT_BYTES else None

    def to(self, rows: Ints) -> Vectors:
        """[s, m] squared distances from rows [s] to all rows."""
        made = self.products
        found = made[rows] if made is not None else self.values[rows] @ self.values.T
        found *= -2.0
        found += self.square
        found += self.square[rows][:, None]
        np.maximum(found, 0.0, out=found)
        return found


def _draw(distance: Vectors, many: int, rng: np.random.Generator) -> Ints:
    """Draw rows with probability proportional to their distance [m]; none if all are 0."""
    reach = np.cumsum(distance, dtype=np.float64)
    if reach[-1] <= 0:
        return np.empty(0, dtype=np.int64)
    rows: Ints = np.searchsorted(reach, rng.random(many) * reach[-1], side="right")
    last = int(np.flatnonzero(distance)[-1])
    return rows.clip(max=last)


def _lloyd(values: Vectors, centres: Vectors, steps: int) -> tuple[int, bool]:
    """Move `centres` [c, d] in place; return the number of steps, and whether they converged."""
    square = squares(values)
    before = np.full(len(values), -1)
    for made in range(steps):
        label, distance = _assign(values, square, centres)
        if np.array_equal(label, before):
            return made, True
        before = label
        _move(values, centres, label, distance)
    return steps, False


def _assign(values: Vectors, square: Floats, centres: Vectors) -> tuple[Ints, Floats]:
    """[m] nearest centre of every row, and the squared distance to it."""
    half = (squares(centres) / 2).astype(np.float32)
    label = np.empty(len(values), dtype=np.int64)
    distance = np.empty(len(values))
    for start, stop, score in products(values, centres):
        score -= half
        best = score.argmax(axis=1)
        label[start:stop] = best
        distance[start:stop] = square[start:stop] - 2.0 * score[np.arange(stop - start), best]
    return label, np.maximum(distance, 0.0, out=distance)


def _move(values: Vectors, centres: Vectors, label: Ints, distance: Floats) -> None:
    """Move every centre to the mean of its rows, and empty ones to the farthest rows."""
    size = np.bincount(label, minlength=len(centres))
    total = np.zeros(centres.shape)
    for start, stop in blocks(*values.shape):
        here = label[start:stop]
        order = np.argsort(here, kind="stable")
        starts = np.flatnonzero(np.diff(here[order], prepend=-1))
        total[here[order[starts]]] += np.add.reduceat(values[start:stop][order], starts, axis=0)
    full = size > 0
    centres[full] = total[full] / size[full, None]
    empty = np.flatnonzero(~full)
    far = np.lexsort((np.arange(len(distance)), -distance))[: len(empty)] if len(empty) else empty
    for place, row in zip(empty, far, strict=True):
        if distance[row] > 0:
            centres[place] = values[row]
