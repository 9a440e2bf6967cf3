"""Ridge logistic regression in numpy, for a few hundred trusted rows, and its AUROC."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.records import Floats

Bools = NDArray[np.bool_]

_MAX_STEPS = 50  # Newton steps
_MAX_HALVINGS = 30  # of one step, until the loss does not rise
_TOLERANCE = 1e-10  # the largest change of a weight at which the steps end


def sigmoid(z: Floats) -> Floats:
    """Return the probabilities [m] in (0, 1) of log-odds [m], without overflow."""
    return np.exp(-np.logaddexp(0.0, -z))


@dataclass(frozen=True)
class Linear:
    """A linear classifier: log-odds w . x + b."""

    weight: Floats  # [f]
    bias: float

    def __call__(self, x: Floats) -> Floats:
        """Return the log-odds [m] of rows [m, f]."""
        logits: Floats = x @ self.weight + self.bias
        return logits


def logistic(x: Floats, y: Bools, l2: float) -> Linear:
    """Fit a ridge logistic regression by damped Newton steps (IRLS).

    Minimises the sum of log-losses + l2 / 2 |w|^2; the bias is free.

    Args:
        x: Features [g, f], all finite.
        y: Classes [g].
        l2: Strength of the ridge, above 0.
    """
    ones = np.ones((len(x), 1))
    design, target = np.hstack([x, ones]), y.astype(np.float64)
    ridge = np.full(design.shape[1], l2)
    ridge[-1] = 1e-9  # only so that one class alone has a minimum
    w = np.zeros(design.shape[1])
    for _ in range(_MAX_STEPS):
        p = sigmoid(design @ w)
        slope = design.T @ (p - target) + ridge * w
        curve = (design.T * (p * (1.0 - p))) @ design + np.diag(ridge)
        step = np.linalg.solve(curve, slope)
        before, damped = _loss(design, target, ridge, w), step
        for _ in range(_MAX_HALVINGS):
            if _loss(design, target, ridge, w - damped) <= before:
                w = w - damped
                break
            damped = damped / 2.0
        if np.abs(step).max() < _TOLERANCE:
            break
    return Linear(w[:-1], float(w[-1]))


def _loss(design: Floats, target: Floats, ridge: Floats, w: Floats) -> float:
    z = design @ w
    return float((np.logaddexp(0.0, z) - target * z).sum() + 0.5 * (ridge * w * w).sum())


def auroc(score: Floats, y: Bools) -> float:
    """Return the area under the ROC curve: the share of (True, False) pairs in the right order.

    Args:
        score: Scores [m]; a tie counts half.
        y: Classes [m].

    Returns:
        A number in [0, 1]; nan unless both classes occur.
    """
    up, down = int(y.sum()), int((~y).sum())
    if not up or not down:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2.0  # mean rank of each value, from 1
    ranks = float(middle[inverse][y].sum())
    return (ranks - up * (up + 1) / 2.0) / (up * down)
