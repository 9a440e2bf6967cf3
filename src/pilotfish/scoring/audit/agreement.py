"""How far a fast precision agrees with fp32 on a sample of rows, and whether that is enough."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pilotfish.methods.rankers.base import best_first
from pilotfish.records import Floats, Ints

TOP = 0.1  # the overlap is taken at the best tenth
_STRATA = 10


@dataclass(frozen=True, slots=True)
class Agreement:
    """Fast scores against fp32, on the rows that both could score; nan where undefined."""

    rows: int
    lost: int  # rows that only one of them could score
    spearman: float  # rank correlation in [-1, 1]; equal scores share their mean rank
    largest: float  # absolute difference, on the axis that `space` names
    rms: float  # of the differences, on the same axis
    overlap: float  # share of the best tenth by fp32 that is the best tenth by the fast scores too
    chance: float  # the overlap that unrelated scores would have
    space: Literal["log", "raw"]  # log where every score is positive


def agreement(
    fast: Floats, exact: Floats, tie: Ints, *, direction: Literal["high", "low"] = "high"
) -> Agreement:
    """Compare two scores of the same rows.

    Args:
        fast: [m] scores of the fast precision; nan where unscorable.
        exact: [m] scores in fp32; nan where unscorable.
        tie: [m] order of rows with equal scores.
        direction: Which end of the scores is kept.
    """
    both = np.isfinite(fast) & np.isfinite(exact)
    lost = int((np.isfinite(fast) != np.isfinite(exact)).sum())
    log = is_positive(fast, exact)
    fast, exact, tie = fast[both], exact[both], tie[both]
    gap = np.abs(on_axis(fast, log) - on_axis(exact, log))
    n, k = len(gap), max(1, round(TOP * len(gap)))
    rows = np.arange(n)
    top = [set(best_first(each, tie, rows, direction)[:k].tolist()) for each in (fast, exact)]
    return Agreement(
        rows=n,
        lost=lost,
        spearman=spearman(fast, exact),
        largest=float(gap.max()) if n else np.nan,
        rms=float(np.sqrt(np.mean(gap**2))) if n else np.nan,
        overlap=len(top[0] & top[1]) / k if n else np.nan,
        chance=k / n if n else np.nan,
        space="log" if log else "raw",
    )


def spearman(a: Floats, b: Floats) -> float:
    """Return the rank correlation of two vectors [m]: Pearson's on mean ranks (Spearman 1904).

    nan where one of them is constant, or m < 2.
    """

    def mean_ranks(values: Floats) -> Floats:
        _, rank, counts = np.unique(values, return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        return np.asarray((last - (counts + 1) / 2)[rank])

    if len(a) < 2:
        return float("nan")
    one, other = mean_ranks(a), mean_ranks(b)
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / norm if norm > 0 else float("nan")


def sample(lengths: Ints, tie: Ints, m: int, *, seed: int) -> Ints:
    """Draw up to m rows of all lengths: each tenth of the lengths gets an equal share.

    Args:
        lengths: [n] length of each row; rows of length 0 are left out.
        tie: [n] order of the rows by content hash: the draw does not depend on the order of files.
        m: Rows to draw.
        seed: Of the draw.

    Returns:
        Indices of the rows, ascending.
    """
    rows = np.flatnonzero(lengths > 0)
    rows = rows[np.argsort(tie[rows])]
    drawn = rows[np.random.default_rng(seed).permutation(len(rows))]
    stratum = length_strata(lengths[drawn], most=_STRATA, least=1)
    # Position inside its stratum over the stratum's size: a cut at m takes equal shares of each.
    share = np.empty(len(drawn))
    for label in np.unique(stratum):
        inside = np.flatnonzero(stratum == label)
        share[inside] = (np.arange(len(inside)) + 0.5) / len(inside)
    return np.sort(drawn[np.argsort(share, kind="stable")][:m])


# What `--precision auto` requires of a sample. Each number follows from the cost of correcting the
# disagreement: with r = rms error / spread of the scores, the rank correlation is about
# 1 - r^2 / 2, and about 4 r of the pool is re-measured at each cut.
LEAST_ROWS = 100  # fewer cannot tell .9995 from .998
LEAST_SPEARMAN = 0.9995  # r = .03: at two cuts, no more than a quarter of the pool is re-measured
LEAST_OVERLAP = 0.95  # one swap in the best tenth of 200 rows, which r = .03 makes now and then
MOST_LARGEST = 0.05  # in log space; an error of 5% is no rounding but a row that broke down
MOST_LOST = 0.01  # rows scored by one only; all of them must be re-measured


def good_enough(found: Agreement) -> bool:
    """Return whether `--precision auto` may take the fast scores, with cuts that are audited.

    Required are all of: 100 rows, rank correlation .9995, overlap of the best tenth .95, no
    difference above .05 (in log space only), at most 1% of rows that only one precision scores. An
    undefined correlation (all scores equal) passes only if no score differs.
    """
    if found.rows < LEAST_ROWS or found.lost > MOST_LOST * (found.rows + found.lost):
        return False
    if found.largest == 0.0:
        return True
    small = found.space == "raw" or found.largest <= MOST_LARGEST
    return small and found.spearman >= LEAST_SPEARMAN and found.overlap >= LEAST_OVERLAP


def length_strata(lengths: Ints, *, most: int, least: int) -> Ints:
    """Group rows by length, because errors of a fast precision shrink as responses grow.

    Returns [n] the stratum of each row, 0 for the shortest: at most `most` strata of about `least`
    rows or more. Edges lie on quantiles of the lengths, so equal lengths share a stratum.
    """
    count = int(np.clip(len(lengths) // least, 1, most))
    shares = np.arange(1, count) / count
    if not len(shares):
        return np.zeros(len(lengths), dtype=np.int64)
    edges = np.unique(np.quantile(lengths, shares, method="inverted_cdf"))
    return np.asarray(np.searchsorted(edges, lengths, side="left"), dtype=np.int64)


def on_axis(scores: Floats, log: bool) -> Floats:
    """Return scores [n] as distances are taken between them: in log space, or as they are."""
    if not log:
        return scores
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.log(scores)
    return np.where(np.isfinite(values), values, np.nan)


def is_positive(*scores: Floats) -> bool:
    """Return whether every finite score is above 0, so that log space can be used."""
    return all(bool((values[np.isfinite(values)] > 0).all()) for values in scores)
