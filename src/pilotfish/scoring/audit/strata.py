"""Rows grouped by length, because the error of a fast precision shrinks as responses grow."""

import numpy as np
from numpy.typing import NDArray

from pilotfish.records import Floats, Ints

Mask = NDArray[np.bool_]


def length_strata(lengths: Ints, *, most: int, least: int) -> Ints:
    """[n] stratum of each row, 0 for the shortest: at most `most`, about `least` rows or more each.

    Edges lie on quantiles of the lengths, so equal lengths share a stratum and order is free.
    """
    count = int(np.clip(len(lengths) // least, 1, most))
    shares = np.arange(1, count) / count
    if not len(shares):
        return np.zeros(len(lengths), dtype=np.int64)
    edges = np.unique(np.quantile(lengths, shares, method="inverted_cdf"))
    return np.asarray(np.searchsorted(edges, lengths, side="left"), dtype=np.int64)


def on_axis(scores: Floats, log: bool) -> Floats:
    """[n] scores as distances are taken between them: in log space, or as they are."""
    if not log:
        return scores
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.log(scores)
    return np.where(np.isfinite(values), values, np.nan)


def is_positive(*scores: Floats) -> bool:
    """Whether every finite score is above 0, so that log space is open to them."""
    return all(bool((values[np.isfinite(values)] > 0).all()) for values in scores)
