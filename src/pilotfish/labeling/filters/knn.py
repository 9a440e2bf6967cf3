"""Keep the labels that agree with those of similar rows: the cut statistic on a kNN graph."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError
from pilotfish.labeling.filters.base import Candidates, Kept, check_share, keep_share, ties
from pilotfish.records import Floats, Ints, Texts

_CELLS = 1 << 23  # similarities held at once: 64 MiB

FEW = "fewer than 2 labelled rows have a hidden state"
NO_STATE = "no hidden state"


@dataclass(frozen=True)
class Knn:
    """Keep by the cut statistic of the weak labels among the nearest hidden states.

    k: neighbours by cosine; keep: share of the labelled rows. The score is minus the standardised
    number of neighbours with another label, so that a rare label is not punished for being rare.
    It believes that similar rows share labels, and so repeats an error made on all of a cluster.
    """

    k: int = 20
    keep: float = 0.8
    per_class: bool = False

    formula = "-(J - E[J]) / sd(J), J = weight of edges to neighbours with another label"
    cite = "Lang et al. 2022, arXiv:2206.02914; Muhlenbach et al. 2004"

    def __post_init__(self) -> None:
        check_share("knn", self.keep)
        if self.k < 1:
            raise UsageError(f"knn: k={self.k} is no number of neighbours", hint="write knn(k=20)")

    def sift(self, seen: Candidates) -> Kept:
        """UsageError without hidden states; rows whose state is missing or zero are not kept."""
        if seen.states is None:
            raise UsageError(
                "the filter 'knn' needs the weak model's hidden states",
                hint="label with states, or filter by confidence",
            )
        score, why = cut_statistic(
            seen.states, seen.labels.label, seen.labels.ids, self.k, usable=seen.labels.ok
        )
        return keep_share(seen, score, why, self.keep, per_class=self.per_class)

    def facts(self, seen: Candidates) -> dict[str, Any]:
        """Nothing beside the counts."""
        return {}


def cut_statistic(
    states: Floats, label: Texts, ids: Texts, k: int, *, usable: NDArray[np.bool_]
) -> tuple[Floats, Texts]:
    """[n] minus the standardised cut of each row, and [n] why there is none.

        w_ij = (1 + cos_ij) / 2        to the k nearest j, in [0, 1]
        J_i  = sum_j w_ij [label_i != label_j]
        E[J_i] = (1 - P_i) sum_j w_ij,   var[J_i] = P_i (1 - P_i) sum_j w_ij^2

    with P_i the share of label_i among the usable rows: what labels dealt at random would give.
    0 where there is but one label. Rows are walked in an order of their ids, so that shuffled
    rows get the same bits.
    """
    states = np.asarray(states, dtype=np.float64)
    length = np.linalg.norm(np.where(np.isfinite(states), states, 0.0), axis=1)
    whole = np.isfinite(states).all(axis=1) & (length > 0.0)
    score = np.full(len(label), np.nan)
    why = np.where(whole, "", NO_STATE).astype(object)
    rows = np.flatnonzero(whole & usable)
    if rows.size < 2:
        why[rows] = FEW
        return score, why
    rows = rows[np.argsort(ties(ids)[rows])]
    unit = states[rows] / length[rows, None]
    codes = np.unique(label[rows].astype(str), return_inverse=True)[1]
    score[rows] = _scores(unit, codes.astype(np.int64), min(k, rows.size - 1))
    return score, why


def _scores(unit: Floats, codes: Ints, k: int) -> Floats:
    """[m] of [m, d] unit rows with labels `codes` [m]."""
    share = (np.bincount(codes) / codes.size)[codes]
    near, cosine = nearest(unit, k)
    weight = np.clip((1.0 + cosine) / 2.0, 0.0, 1.0)
    cut = (weight * (codes[near] != codes[:, None])).sum(axis=1)
    expected = (1.0 - share) * weight.sum(axis=1)
    spread = np.sqrt(share * (1.0 - share) * (weight**2).sum(axis=1))
    off = np.divide(cut - expected, spread, out=np.zeros_like(cut), where=spread > 0.0)
    score: Floats = np.negative(off)
    return score


def nearest(unit: Floats, k: int) -> tuple[Ints, Floats]:
    """[m, k] the nearest other rows by cosine, nearest first, and [m, k] the cosines; exact.

    Rows of equal cosine are taken in the order they come.
    """
    m = len(unit)
    block = max(1, _CELLS // m)
    near, cosine = np.empty((m, k), dtype=np.int64), np.empty((m, k))
    for start in range(0, m, block):
        at = slice(start, min(start + block, m))
        similar = unit[at] @ unit.T
        similar[np.arange(similar.shape[0]), np.arange(at.start, at.stop)] = -math.inf
        near[at] = _largest(similar, k)
        cosine[at] = np.take_along_axis(similar, near[at], axis=1)
    return near, cosine


def _largest(values: Floats, k: int) -> Ints:
    """[b, k] columns of the k largest of each row, ties by column."""
    least = np.partition(values, values.shape[1] - k, axis=1)[:, -k, None]
    chosen = np.empty((len(values), k), dtype=np.int64)
    for row, (line, edge) in enumerate(zip(values, least, strict=True)):
        found = np.flatnonzero(line >= edge)  # in column order; more than k where the edge is tied
        chosen[row] = found[np.argsort(-line[found], kind="stable")[:k]]
    return chosen
