"""The filter `trust`: keep labels that a logistic head, fitted on trusted rows, finds right."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError
from pilotfish.labeling.filters.base import (
    Candidates,
    FilterResult,
    check_cut,
    keep_above,
    keep_share,
    ties,
)
from pilotfish.labeling.filters.logistic import Linear, auroc, logistic, sigmoid
from pilotfish.labeling.table import Labels
from pilotfish.records import Floats, Ints

Bools = NDArray[np.bool_]

_KEEP = 0.8  # where neither `keep` nor `above` is given
_STRENGTHS = (0.003, 0.03, 0.3, 3.0, 30.0)
_FOLDS = 5
_MIN_EACH = 10  # right labels of trusted rows, and wrong ones
_MAX_DIRECTIONS = 64  # of the states, by variance
_MIN_LOG = -20.0  # nats; a probability of 0 must not become -inf


@dataclass(frozen=True)
class Trust:
    """Keep by P(the weak label is right), from the weak model's states and log-probabilities.

    The l2 is chosen by cross-validation, and the probabilities are calibrated on the held-out
    folds (Platt 1999).

    Attributes:
        kind: The kind of head; `logistic` is the only one.
        keep: Share of the labelled rows to keep; 0.8 where neither `keep` nor `above` is given.
        above: Or the lowest probability to keep, in [0, 1].
        per_class: Spend the share within each weak label, as in `confidence`.
        gold: Fewest trusted rows to fit on; 10 or more must be labelled right, and 10 wrong.
    """

    kind: str = "logistic"
    keep: float | None = None
    above: float | None = None
    per_class: bool = False
    gold: int = 60

    formula = "P(weak label right | weak hidden state, weak log-probabilities)"
    cite = "arXiv:2606.01000; calibration: Platt 1999"

    def __post_init__(self) -> None:
        check_cut("trust", self.keep, self.above)
        if self.kind != "logistic":
            raise UsageError(
                f"trust: kind={self.kind!r} is unknown; the one kind of head is logistic",
                hint="write trust(kind=logistic), or leave kind out",
            )

    def apply(self, candidates: Candidates) -> FilterResult:
        """Keep the labels with the highest P(right).

        Raises:
            UsageError: The trusted rows are missing, too few, or all right (or all wrong).
        """
        head = self.fit(candidates)
        x = features(candidates.labels, candidates.states)
        usable = np.isfinite(x).all(axis=1)
        rows = np.flatnonzero(usable)
        rows = rows[
            np.argsort(ties(candidates.labels.ids)[rows])
        ]  # shuffled rows get the same bits
        score = np.full(len(candidates), np.nan)
        score[rows] = head.probability(x[rows])
        why = np.where(usable, "", "no hidden state or no probability").astype(object)
        if self.above is not None:
            return keep_above(candidates, score, why, self.above)
        return keep_share(candidates, score, why, self.keep or _KEEP, per_class=self.per_class)

    def facts(self, candidates: Candidates) -> dict[str, Any]:
        """Return the head's cross-validated AUROC, the counts of its trusted rows, and its l2."""
        head = self.fit(candidates)
        return {
            "kind": self.kind,
            "auroc": head.auroc,
            "gold_rows": head.rows,
            "gold_right": head.right,
            "l2": head.l2,
        }

    def fit(self, candidates: Candidates) -> "TrustHead":
        """Fit the head on the trusted rows of `candidates`; their order does not change it.

        Raises:
            UsageError: The trusted rows are missing, too few, or all right (or all wrong).
            ValueError: Hidden states are given for the pool or for the trusted rows alone.
        """
        if candidates.trusted_labels is None or candidates.trusted_correct is None:
            raise UsageError(
                "the filter 'trust' needs trusted rows that the weak model labelled too",
                hint="give --trusted DATA, or filter by confidence",
            )
        if (candidates.states is None) != (candidates.trusted_states is None):
            raise ValueError("hidden states are given for the pool or for the trusted rows alone")
        x = features(candidates.trusted_labels, candidates.trusted_states)
        usable = np.isfinite(x).all(axis=1) & candidates.trusted_labels.ok
        rows = np.flatnonzero(usable)
        rows = rows[np.argsort(ties(candidates.trusted_labels.ids)[rows])]
        y = np.asarray(candidates.trusted_correct, dtype=bool)[rows]
        right, wrong = int(y.sum()), int((~y).sum())
        if rows.size < self.gold or min(right, wrong) < _MIN_EACH:
            raise UsageError(
                f"trust: {rows.size} usable trusted rows, {right} of them labelled right by the "
                f"weak model; at least {self.gold} are needed, {_MIN_EACH} right and {_MIN_EACH} "
                "wrong",
                hint="give more trusted rows, or filter by confidence",
            )
        width = 0 if candidates.trusted_states is None else candidates.trusted_states.shape[1]
        return fit_head(x[rows], y, width)


@dataclass(frozen=True)
class TrustHead:
    """A fitted, calibrated head.

    Attributes:
        head: Log-odds of rows, before calibration.
        platt: The calibration of those log-odds.
        auroc: Of the held-out folds, at the l2 chosen on them, so a little too high.
        l2: Strength of the ridge, chosen on the held-out folds.
        rows: Trusted rows behind the head.
        right: How many of them the weak model labelled right.
    """

    head: "Scaled"
    platt: Linear
    auroc: float
    l2: float
    rows: int
    right: int

    def probability(self, x: Floats) -> Floats:
        """Return P(right) [m], in (0, 1), of finite features [m, f]."""
        return sigmoid(self.platt(self.head(x)[:, None]))


@dataclass(frozen=True)
class Scaling:
    """Standardise features: the states share a variance of 1, every other feature has its own.

    The states are turned to their directions of most variance.
    """

    mean: Floats  # [f]
    scale: Floats  # [f]
    turn: Floats  # [f, r]

    def __call__(self, x: Floats) -> Floats:
        """Return the scaled features [m, r] of rows [m, f]."""
        turned: Floats = ((x - self.mean) / self.scale) @ self.turn
        return turned


@dataclass(frozen=True)
class Scaled:
    """A linear head on scaled features."""

    scaling: Scaling
    inner: Linear

    def __call__(self, x: Floats) -> Floats:
        """Return the log-odds [m] of rows [m, f]."""
        return self.inner(self.scaling(x))


def features(labels: Labels, states: Floats | None) -> Floats:
    """Return the head's features [n, f] of the rows of `labels`; nan where one was not measured.

    They are the states [n, d], then the log-probabilities [n, k] and the largest of them (the
    confidence is not linear in the classes' log-probabilities), or the log confidence where the
    labels are not classes.
    """
    blocks = [] if states is None else [np.asarray(states, dtype=np.float64)]
    if labels.probs is None:
        return np.hstack([*blocks, _log(labels.confidence)[:, None]])
    log_probs = _log(labels.probs)
    return np.hstack([*blocks, log_probs, log_probs.max(axis=1, initial=_MIN_LOG)[:, None]])


def _log(probs: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(probs), _MIN_LOG)


def scaling(x: Floats, width: int) -> Scaling:
    """Fit the scaling of rows x [g, f], whose first `width` columns are states.

    A feature that never changes is set to 0. Only the states are turned and cut, so that the few
    log-probabilities keep their weight among hundreds of states.
    """
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    still = deviation <= 1e-12 * np.maximum(1.0, np.abs(mean))
    scale = np.where(still, np.inf, deviation)
    rest = np.eye(x.shape[1])[:, width:]
    if not width:
        return Scaling(mean, scale, rest)
    states = ((x - mean) / scale)[:, :width]
    directions = np.linalg.svd(states, full_matrices=False)[2][:_MAX_DIRECTIONS].T / math.sqrt(
        width
    )
    padded = np.vstack([directions, np.zeros((rest.shape[1], directions.shape[1]))])
    return Scaling(mean, scale, np.hstack([padded, rest]))


def fit_head(x: Floats, y: Bools, width: int) -> TrustHead:
    """Choose the l2 by held-out log-loss, calibrate on the held-out logits, fit on all rows.

    Args:
        x: Features [g, f], all finite, in an order that does not depend on the data's.
        y: Whether the weak label is right [g].
        width: How many of the first columns are states.
    """
    fold = folds(y)
    held = {l2: _held_out(x, y, fold, width, l2) for l2 in _STRENGTHS}
    log_loss = {
        each: float((np.logaddexp(0.0, logits) - y * logits).mean())
        for each, logits in held.items()
    }
    l2 = min(_STRENGTHS, key=lambda each: (log_loss[each], each))
    platt = logistic(held[l2][:, None], y, 1.0)
    area = auroc(held[l2], y)
    return TrustHead(_fit(x, y, width, l2), platt, area, l2, len(y), int(y.sum()))


def folds(y: Bools) -> Ints:
    """Return the fold [g] of every row; right and wrong rows are spread evenly, in order."""
    fold = np.empty(len(y), dtype=np.int64)
    for kind in (True, False):
        rows = np.flatnonzero(y == kind)
        fold[rows] = np.arange(rows.size) % _FOLDS
    return fold


def _fit(x: Floats, y: Bools, width: int, l2: float) -> Scaled:
    known = scaling(x, width)
    return Scaled(known, logistic(known(x), y, l2))


def _held_out(x: Floats, y: Bools, fold: Ints, width: int, l2: float) -> Floats:
    """Return logits [g], each from a head and a scaling fitted on the other folds."""
    logits = np.empty(len(x))
    for at in range(_FOLDS):
        inside = fold == at
        logits[inside] = _fit(x[~inside], y[~inside], width, l2)(x[inside])
    return logits
