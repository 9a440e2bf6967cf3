"""Small classifiers in numpy for a few hundred gold rows: ridge logistic, and one hidden layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pilotfish.records import Floats

Bools = NDArray[np.bool_]

_NEWTON = 50
_SETTLED = 1e-10
_ADAM_STEPS, _ADAM_RATE = 300, 0.02
_HIDDEN = 16


class Head(Protocol):
    """A fitted head: logits of rows."""

    def __call__(self, x: Floats) -> Floats:
        """[m, f] -> [m] log-odds."""


Fit = Callable[[Floats, Bools, float], Head]  # x [g, f], y [g], l2 -> head


def sigmoid(z: Floats) -> Floats:
    """[m] log-odds -> [m] in (0, 1), without overflow."""
    return np.exp(-np.logaddexp(0.0, -z))


@dataclass(frozen=True)
class Linear:
    """w . x + b."""

    weight: Floats  # [f]
    bias: float

    def __call__(self, x: Floats) -> Floats:
        """[m, f] -> [m] log-odds."""
        logits: Floats = x @ self.weight + self.bias
        return logits


@dataclass(frozen=True)
class Hidden:
    """v . tanh(x W + c) + b."""

    inner: Floats  # [f, h]
    shift: Floats  # [h]
    outer: Floats  # [h]
    bias: float

    def __call__(self, x: Floats) -> Floats:
        """[m, f] -> [m] log-odds."""
        logits: Floats = np.tanh(x @ self.inner + self.shift) @ self.outer + self.bias
        return logits


def logistic(x: Floats, y: Bools, l2: float) -> Linear:
    """Minimum of sum log-loss + l2 / 2 |w|^2 (the bias is free) by damped Newton steps (IRLS)."""
    ones = np.ones((len(x), 1))
    design, target = np.hstack([x, ones]), y.astype(np.float64)
    ridge = np.full(design.shape[1], l2)
    ridge[-1] = 1e-9  # only so that one class alone has a minimum
    w = np.zeros(design.shape[1])
    for _ in range(_NEWTON):
        p = sigmoid(design @ w)
        slope = design.T @ (p - target) + ridge * w
        curve = (design.T * (p * (1.0 - p))) @ design + np.diag(ridge)
        step = np.linalg.solve(curve, slope)
        w = _shorter(w, step, lambda v: _loss(design, target, ridge, v))
        if np.abs(step).max() < _SETTLED:
            break
    return Linear(w[:-1], float(w[-1]))


def _loss(design: Floats, target: Floats, ridge: Floats, w: Floats) -> float:
    z = design @ w
    return float((np.logaddexp(0.0, z) - target * z).sum() + 0.5 * (ridge * w * w).sum())


def _shorter(w: Floats, step: Floats, loss: Callable[[Floats], float]) -> Floats:
    """w - step, halved until the loss does not rise."""
    before = loss(w)
    for _ in range(30):
        if loss(w - step) <= before:
            return w - step
        step = step / 2.0
    return w


def mlp(x: Floats, y: Bools, l2: float) -> Hidden:
    """Same loss with one tanh layer of 16, full-batch Adam for 300 steps from fixed random weights.

    A pure function: the start comes from a fixed seed, and no batch is drawn.
    """
    g, f = x.shape
    rng = np.random.default_rng(0)
    sizes = [(f, _HIDDEN), (_HIDDEN,), (_HIDDEN,), ()]
    scale = [1.0 / np.sqrt(max(1, f)), 0.0, 1.0 / np.sqrt(_HIDDEN), 0.0]
    parts = [s * rng.standard_normal(size) for s, size in zip(scale, sizes, strict=True)]
    target = y.astype(np.float64)
    first = [np.zeros(size) for size in sizes]
    second = [np.zeros(size) for size in sizes]
    for at in range(1, _ADAM_STEPS + 1):
        slopes = _slopes(parts, x, target, l2 / g)
        for i, slope in enumerate(slopes):
            first[i] = 0.9 * first[i] + 0.1 * slope
            second[i] = 0.999 * second[i] + 0.001 * slope**2
            size = np.sqrt(second[i] / (1.0 - 0.999**at)) + 1e-8
            parts[i] = parts[i] - _ADAM_RATE * (first[i] / (1.0 - 0.9**at)) / size
    return Hidden(parts[0], parts[1], parts[2], float(parts[3]))


def _slopes(parts: list[Floats], x: Floats, target: Floats, l2: float) -> list[Floats]:
    """Gradient of the mean log-loss + l2 / 2 |W|^2 + l2 / 2 |v|^2, part by part."""
    inner, shift, outer, bias = parts
    h = np.tanh(x @ inner + shift)  # [g, h]
    off = (sigmoid(h @ outer + bias) - target) / len(x)  # [g]
    back = np.outer(off, outer) * (1.0 - h * h)
    return [x.T @ back + l2 * inner, back.sum(axis=0), h.T @ off + l2 * outer, off.sum()]


def auroc(score: Floats, y: Bools) -> float:
    """Share of (right, wrong) pairs ordered rightly, ties half; nan without both kinds."""
    up, down = int(y.sum()), int((~y).sum())
    if not up or not down:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2.0  # mean rank of each value, from 1
    ranks = float(middle[inverse][y].sum())
    return (ranks - up * (up + 1) / 2.0) / (up * down)


FITS: dict[str, Fit] = {"logistic": logistic, "mlp": mlp}
