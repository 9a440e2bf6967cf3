"""Calibration of a classifier: ECE, confidence where it is wrong, and misfit.

ECE as Naeini et al. 2015 and Guo et al. 2017 (arXiv:1706.04599) define it; misfit as
arXiv:2405.15116 uses it.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def ece(confidence: Floats, right: Bools, *, bins: int = 15, equal_mass: bool = False) -> float:
    """Return the expected calibration error, in [0, 1].

        ECE = sum over bins of (rows in bin / n) * |mean right - mean confidence|

    Args:
        confidence: Confidences [n] in [0, 1]; rows with a nan are left out.
        right: Whether each row is right [n].
        bins: Number of bins, at least 1. They are equally wide, ((b - 1) / bins, b / bins], and
            0 belongs to the first.
        equal_mass: Cut the sorted rows into bins of nearly equal size instead; rows of equal
            confidence share a bin.

    Returns:
        The error; nan where no row is left.

    Raises:
        ValueError: A confidence is outside [0, 1], or `bins` is below 1.
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
    """Return the mean confidence of the wrong rows, in [0, 1]; nan where no row is wrong."""
    believed, correct = _usable(confidence, right)
    wrong = believed[correct == 0.0]
    return float(wrong.mean()) if wrong.size else float("nan")


def misfit(student: Floats, weak: Floats) -> float:
    """Return the mean KL(student || weak) over rows, in nats (arXiv:2405.15116).

    It measures how far the student moved away from its weak labels; theory ties the student's gain
    over the weak model to it.

    Args:
        student: Normalised log-probabilities [n, K].
        weak: The same of the weak model [n, K]; rows with a nan in either are left out.

    Returns:
        The misfit; nan where no row is left, inf where the weak model gives probability 0 to a
        class that is possible for the student.
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
    """Return the bin of each row [n]; a value on an edge belongs to the bin below it."""
    edges = np.arange(1, bins) / bins
    return np.searchsorted(edges, confidence, side="left").astype(np.int64)


def _by_mass(confidence: Floats, bins: int) -> Ints:
    """Return the bin of each row [n] by the rank of its confidence; ties take the lowest rank."""
    rank = np.searchsorted(np.sort(confidence), confidence, side="left")
    return (rank * bins // confidence.size).astype(np.int64)
