"""How far a classifier's confidence can be believed: ECE, confidence where wrong, misfit.

ECE as Naeini et al. 2015 and Guo et al. 2017 (arXiv:1706.04599) define it; misfit as
arXiv:2405.15116 uses it.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def ece(confidence: Floats, right: Bools, *, bins: int = 15, equal_mass: bool = False) -> float:
    """Expected calibration error: sum over bins of (rows / n) * |mean right - mean confidence|.

    confidence [n] in [0, 1], right [n]; in [0, 1]. Bins are equally wide, ((b - 1) / bins,
    b / bins], with 0 in the first one; `equal_mass` cuts the sorted rows into bins of (nearly)
    equal size instead, rows of one confidence never apart. Rows whose confidence is nan are left
    out; nan where none is left. ValueError for a confidence outside [0, 1] or bins < 1.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    believed, correct = _usable(confidence, right)
    n = believed.size
    if n == 0:
        return float("nan")
    at = _by_mass(believed, bins) if equal_mass else _by_width(believed, bins)
    off = np.bincount(at, weights=correct - believed, minlength=bins)
    return float(np.abs(off).sum() / n)


def confidence_when_wrong(confidence: Floats, right: Bools) -> float:
    """Mean confidence of the rows that are wrong, in [0, 1]; nan where none is wrong."""
    believed, correct = _usable(confidence, right)
    wrong = believed[correct == 0.0]
    return float(wrong.mean()) if wrong.size else float("nan")


def misfit(student: Floats, weak: Floats) -> float:
    """Mean KL(student || weak) in nats over rows of log-probabilities [n, K], both normalised.

    How far the student moved away from what it was taught: theory ties the gain over the weak
    model to it. Rows with a nan in either are left out; nan where none is left; inf where the
    weak model gives no probability to what the student holds possible.
    """
    if student.shape != weak.shape or student.ndim != 2:
        raise ValueError(f"log-probabilities must be [n, K] twice: {student.shape}, {weak.shape}")
    usable = ~(np.isnan(student).any(axis=1) | np.isnan(weak).any(axis=1))
    if not usable.any():
        return float("nan")
    own, taught = student[usable], weak[usable]
    mass = np.exp(own)
    off = np.where(mass > 0.0, own, 0.0) - np.where(mass > 0.0, taught, 0.0)
    return max(0.0, float((mass * off).sum(axis=1).mean()))


def _usable(confidence: Floats, right: Bools) -> tuple[Floats, Floats]:
    if confidence.shape != right.shape or confidence.ndim != 1:
        raise ValueError(f"two vectors of one length are needed: {confidence.shape}, {right.shape}")
    known = ~np.isnan(confidence)
    kept = confidence[known].astype(np.float64)
    if kept.size and (kept.min() < 0.0 or kept.max() > 1.0):
        raise ValueError(f"a confidence lies outside [0, 1]: {kept.min():g} to {kept.max():g}")
    return kept, right[known].astype(np.float64)


def _by_width(confidence: Floats, bins: int) -> Ints:
    """[n] bin of each row; a value on an edge belongs to the bin below it."""
    edges = np.arange(1, bins) / bins
    return np.searchsorted(edges, confidence, side="left").astype(np.int64)


def _by_mass(confidence: Floats, bins: int) -> Ints:
    """[n] bin of each row by the rank of its confidence; equal confidences share the lowest."""
    rank = np.searchsorted(np.sort(confidence), confidence, side="left")
    return (rank * bins // confidence.size).astype(np.int64)
