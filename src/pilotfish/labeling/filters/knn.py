"""The filter `knn`: keep labels that agree with those of similar rows, by the cut statistic."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError
from pilotfish.labeling.filters.base import Candidates, FilterResult, check_share, keep_share, ties
from pilotfish.records import Floats, Ints, Texts

_CELLS = 1 << 23  # similarities held at once: 64 MiB

FEW = "fewer than 2 labelled rows have a hidden state"
NO_STATE = "no hidden state"


@dataclass(frozen=True)
class Knn:
    """Keep by the cut statistic of the weak labels among the nearest hidden states.

    The score is minus the standardised number of neighbours with another label, so a rare label is
    not punished for being rare. Similar rows are assumed to share a label, so an error made on a
    whole cluster is kept.

    Attributes:
        k: Number of neighbours, by cosine.
        keep: Share of the labelled rows to keep.
        per_class: Spend the share within each weak label.
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

    def apply(self, candidates: Candidates) -> FilterResult:
        """Keep rows whose neighbours have the same label; none with a missing or zero state.

        Raises:
            UsageError: There are no hidden states.
        """
        if candidates.states is None:
            raise UsageError(
                "the filter 'knn' needs the weak model's hidden states",
                hint="label with states, or filter by confidence",
            )
        score, why = cut_statistic(
            candidates.states,
            candidates.labels.label,
            candidates.labels.ids,
            self.k,
            usable=candidates.labels.ok,
        )
        return keep_share(candidates, score, why, self.keep, per_class=self.per_class)

    def facts(self, candidates: Candidates) -> dict[str, Any]:
        """Return nothing: the counts of rows say it all."""
        return {}


def cut_statistic(
    states: Floats, label: Texts, ids: Texts, k: int, *, usable: NDArray[np.bool_]
) -> tuple[Floats, Texts]:
    """Score rows by minus their standardised cut.

        w_ij = (1 + cos_ij) / 2        to the k nearest j, in [0, 1]
        J_i  = sum_j w_ij [label_i != label_j]
        E[J_i] = (1 - P_i) sum_j w_ij,   var[J_i] = P_i (1 - P_i) sum_j w_ij^2

    with P_i the share of label_i among the usable rows: the cut that random labels would give.
    The score is 0 where there is only one label. Rows are processed in an order of their ids, so
    shuffled rows get the same bits.

    Args:
        states: Hidden states [n, d].
        label: Weak labels [n].
        ids: Ids of the rows [n].
        k: Number of neighbours.
        usable: Which rows take part [n].

    Returns:
        The scores [n], nan where there is none, and the reason why [n].
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
    """Score unit rows [m, d] with labels `codes` [m]."""
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
    """Find the nearest other rows by cosine, exactly; ties by their order.

    Args:
        unit: Unit rows [m, d].
        k: Number of neighbours, below m.

    Returns:
        Indices of the neighbours [m, k], nearest first, and their cosines [m, k].
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
    """Return the columns [b, k] of the k largest of each row, ties by column."""
    least = np.partition(values, values.shape[1] - k, axis=1)[:, -k, None]
    chosen = np.empty((len(values), k), dtype=np.int64)
    for row, (line, edge) in enumerate(zip(values, least, strict=True)):
        found = np.flatnonzero(line >= edge)  # in column order; more than k where the edge is tied
        chosen[row] = found[np.argsort(-line[found], kind="stable")[:k]]
    return chosen
