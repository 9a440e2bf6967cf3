"""Keep the labels that a small head, fitted on gold rows, believes to be right."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError
from pilotfish.labeling.filters.base import (
    Candidates,
    Kept,
    check_knobs,
    keep_above,
    keep_share,
    ties,
)
from pilotfish.labeling.filters.heads import FITS, Fit, Head, Linear, auroc, logistic, sigmoid
from pilotfish.labeling.table import Labels
from pilotfish.records import Floats, Ints

Bools = NDArray[np.bool_]

_KEEP = 0.8
_STRENGTHS = (0.003, 0.03, 0.3, 3.0, 30.0)
_FOLDS = 5
_EACH = 10  # right and wrong gold labels, at the least
_MOST = 64  # directions of the states, by variance, that are used
_LEAST_LOG = -20.0  # nats; a probability of 0 must not become -inf


@dataclass(frozen=True)
class Trust:
    """Keep by P(the weak label is right), from the weak model's states and log-probabilities.

    kind: `logistic` or `mlp`. keep: share of the labelled rows (0.8 where nothing is given); or
    above: the least trust; per_class as in `confidence`. gold: fewest gold rows it will learn
    from, of which at least 10 must be right and 10 wrong. The l2 is chosen by cross-validation,
    and the probabilities are calibrated (Platt) on the held-out folds.
    """

    kind: Literal["logistic", "mlp"] = "logistic"
    keep: float | None = None
    above: float | None = None
    per_class: bool = False
    gold: int = 60

    formula = "P(weak label right | weak hidden state, weak log-probabilities)"
    cite = "arXiv:2606.01000; calibration: Platt 1999"

    def __post_init__(self) -> None:
        check_knobs("trust", self.keep, self.above)
        if self.kind not in FITS:
            raise UsageError(
                f"trust: kind={self.kind} is unknown", hint="write trust(kind=logistic) or mlp"
            )

    def sift(self, seen: Candidates) -> Kept:
        """UsageError where the gold set is missing, too small, or all right (or all wrong)."""
        head = self.fit(seen)
        x = features(seen.labels, seen.states)
        usable = np.isfinite(x).all(axis=1)
        rows = np.flatnonzero(usable)
        rows = rows[np.argsort(ties(seen.labels.ids)[rows])]  # shuffled rows get the same bits
        score = np.full(len(seen), np.nan)
        score[rows] = head.probability(x[rows])
        why = np.where(usable, "", "no hidden state or no probability").astype(object)
        if self.above is not None:
            return keep_above(seen, score, why, self.above)
        return keep_share(seen, score, why, self.keep or _KEEP, per_class=self.per_class)

    def facts(self, seen: Candidates) -> dict[str, Any]:
        """The head's cross-validated AUROC, the gold rows it rests on, and its l2."""
        head = self.fit(seen)
        return {
            "kind": self.kind,
            "auroc": head.auroc,
            "gold_rows": head.rows,
            "gold_right": head.right,
            "l2": head.l2,
        }

    def fit(self, seen: Candidates) -> "TrustHead":
        """The head fitted on the gold rows of `seen`; the same whatever their order."""
        if seen.gold_labels is None or seen.gold_right is None:
            raise UsageError(
                "the filter 'trust' needs gold rows that the weak model labelled too",
                hint="give --trusted DATA, or filter by confidence",
            )
        if (seen.states is None) != (seen.gold_states is None):
            raise ValueError("hidden states are given for the pool or for the gold rows alone")
        x = features(seen.gold_labels, seen.gold_states)
        usable = np.isfinite(x).all(axis=1) & seen.gold_labels.ok
        rows = np.flatnonzero(usable)
        rows = rows[np.argsort(ties(seen.gold_labels.ids)[rows])]
        y = np.asarray(seen.gold_right, dtype=bool)[rows]
        self._check(rows.size, int(y.sum()))
        width = 0 if seen.gold_states is None else seen.gold_states.shape[1]
        return fit_head(x[rows], y, FITS[self.kind], width)

    def _check(self, rows: int, right: int) -> None:
        if rows >= self.gold and min(right, rows - right) >= _EACH:
            return
        raise UsageError(
            f"trust: {rows} usable gold rows, {right} of them labelled right by the weak model; "
            f"at least {self.gold} are needed, {_EACH} right and {_EACH} wrong",
            hint="give more trusted rows, or filter by confidence",
        )


@dataclass(frozen=True)
class TrustHead:
    """A fitted, calibrated head.

    auroc: of the held-out folds, at the l2 chosen on them (so a little hopeful); rows, right: the
    gold rows behind it.
    """

    head: Head
    platt: Linear
    auroc: float
    l2: float
    rows: int
    right: int

    def probability(self, x: Floats) -> Floats:
        """[m, f] finite features -> [m] P(right) in (0, 1)."""
        return sigmoid(self.platt(self.head(x)[:, None]))


@dataclass(frozen=True)
class Scaling:
    """States to their directions of most variance, of 1 in all; other features of 1 each."""

    mean: Floats  # [f]
    scale: Floats  # [f]
    turn: Floats  # [f, r]

    def __call__(self, x: Floats) -> Floats:
        """[m, f] -> [m, r]."""
        turned: Floats = ((x - self.mean) / self.scale) @ self.turn
        return turned


@dataclass(frozen=True)
class Scaled:
    """A head behind its scaling."""

    scaling: Scaling
    inner: Head

    def __call__(self, x: Floats) -> Floats:
        """[m, f] -> [m] log-odds."""
        return self.inner(self.scaling(x))


def features(labels: Labels, states: Floats | None) -> Floats:
    """[n, f] states [n, d], then log-probabilities [n, k] or, without classes, log confidence.

    The largest log-probability stands beside the others, since being sure is no linear matter of
    which class. nan where a row was not measured.
    """
    blocks = [] if states is None else [np.asarray(states, dtype=np.float64)]
    if labels.probs is None:
        return np.hstack([*blocks, _log(labels.confidence)[:, None]])
    log_probs = _log(labels.probs)
    return np.hstack([*blocks, log_probs, log_probs.max(axis=1, initial=_LEAST_LOG)[:, None]])


def _log(probs: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(probs), _LEAST_LOG)


def scaling(x: Floats, width: int) -> Scaling:
    """The scaling that rows x [g, f] ask for, whose first `width` columns are states.

    A feature that never changes is set to 0. The few log-probabilities are not to drown among
    hundreds of states, so only these are turned and cut.
    """
    mean, spread = x.mean(axis=0), x.std(axis=0)
    still = spread <= 1e-12 * np.maximum(1.0, np.abs(mean))
    scale = np.where(still, np.inf, spread)
    rest = np.eye(x.shape[1])[:, width:]
    if not width:
        return Scaling(mean, scale, rest)
    states = ((x - mean) / scale)[:, :width]
    directions = np.linalg.svd(states, full_matrices=False)[2][:_MOST].T / math.sqrt(width)
    padded = np.vstack([directions, np.zeros((rest.shape[1], directions.shape[1]))])
    return Scaling(mean, scale, np.hstack([padded, rest]))


def fit_head(x: Floats, y: Bools, fit: Fit, width: int) -> TrustHead:
    """Choose the l2 by held-out log-loss, calibrate on the held-out logits, fit on all rows."""

    def fitted(l2: float, rows: Bools) -> Scaled:
        known = scaling(x[rows], width)
        return Scaled(known, fit(known(x[rows]), y[rows], l2))

    fold = folds(y)
    held = {l2: _held_out(x, fold, partial(fitted, l2)) for l2 in _STRENGTHS}
    l2 = min(_STRENGTHS, key=lambda each: (_log_loss(held[each], y), each))
    platt = logistic(held[l2][:, None], y, 1.0)
    area = auroc(held[l2], y)
    every = np.ones(len(y), dtype=bool)
    return TrustHead(fitted(l2, every), platt, area, l2, len(y), int(y.sum()))


def folds(y: Bools) -> Ints:
    """[g] fold of every row, right and wrong rows dealt out evenly in the order they come."""
    fold = np.empty(len(y), dtype=np.int64)
    for kind in (True, False):
        rows = np.flatnonzero(y == kind)
        fold[rows] = np.arange(rows.size) % _FOLDS
    return fold


def _held_out(x: Floats, fold: Ints, fitted: Callable[[Bools], Scaled]) -> Floats:
    """[g] logits of every row from a head that did not see it, its scaling included."""
    logits = np.empty(len(x))
    for at in range(_FOLDS):
        logits[fold == at] = fitted(fold != at)(x[fold == at])
    return logits


def _log_loss(logits: Floats, y: Bools) -> float:
    return float((np.logaddexp(0.0, logits) - y * logits).mean())
