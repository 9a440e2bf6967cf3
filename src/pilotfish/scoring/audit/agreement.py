"""How far a fast precision agrees with fp32 on a sample of rows, and whether that is enough."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pilotfish.methods.rankers.base import best_first
from pilotfish.records import Floats, Ints
from pilotfish.scoring.audit.strata import is_positive, length_strata, on_axis

TOP = 0.1  # overlap is taken at the best tenth
_STRATA = 10


@dataclass(frozen=True, slots=True)
class Agreement:
    """Fast scores against fp32 on the rows both could score; nan where undefined.

    spearman: in [-1, 1], ties by their mean rank. largest, rms: absolute differences, in log
    space where every score is positive (`space` says). overlap: share of the best tenth by fp32
    that is also the best tenth by the fast scores; chance: what unrelated scores would share.
    """

    rows: int
    lost: int  # rows that one of the two could score and the other not
    spearman: float
    largest: float
    rms: float
    overlap: float
    chance: float
    space: Literal["log", "raw"]


def agreement(
    fast: Floats, exact: Floats, tie: Ints, *, direction: Literal["high", "low"] = "high"
) -> Agreement:
    """Compare two scores [m] of the same rows; `direction` is the end that is kept."""
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
    """Rank correlation of two vectors [m]: Pearson's on mean ranks; nan where one is constant."""
    if len(a) < 2:
        return float("nan")
    one, other = (_mean_ranks(each) for each in (a, b))
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / norm if norm > 0 else float("nan")


def _mean_ranks(values: Floats) -> Floats:
    """[m] 0-based rank of each value, equal values sharing the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts + 1) / 2)[place])


def sample(lengths: Ints, tie: Ints, m: int, *, seed: int) -> Ints:
    """Up to m row indices, ascending: every tenth of the lengths gets its share, drawn by seed.

    tie [n] is the rows' order by content hash, so the same rows are drawn whatever the order of
    the files. Rows of length 0 have nothing to compare and are left out.
    """
    rows = np.flatnonzero(lengths > 0)
    rows = rows[np.argsort(tie[rows])]
    drawn = rows[np.random.default_rng(seed).permutation(len(rows))]
    stratum = length_strata(lengths[drawn], most=_STRATA, least=1)
    # Place inside its stratum over the stratum's size: a cut at m takes equal shares of each.
    share = np.empty(len(drawn))
    for label in np.unique(stratum):
        inside = np.flatnonzero(stratum == label)
        share[inside] = (np.arange(len(inside)) + 0.5) / len(inside)
    return np.sort(drawn[np.argsort(share, kind="stable")][:m])


# What `--precision auto` asks of a sample. Each number is tied to the cost of putting the
# disagreement right: with r = rms error / spread of the scores, rank correlation is about
# 1 - r^2 / 2, and a walk re-measures about 4 r of the pool at each cut.
LEAST_ROWS = 100  # fewer cannot tell .9995 from .998
LEAST_SPEARMAN = 0.9995  # r = .03: a walk over a quarter of the pool at two cuts, no more
LEAST_OVERLAP = 0.95  # one swap in the best tenth of 200 rows, which r = .03 makes now and then
MOST_LARGEST = 0.05  # in log space; an error of 5% is no rounding but a row that broke down
MOST_LOST = 0.01  # rows scored by one only; all of them must be re-measured


def good_enough(found: Agreement) -> bool:
    """Whether `--precision auto` may take the fast scores, audited cuts included.

    All of: 100 rows at least, rank correlation .9995, overlap of the best tenth .95, no
    difference above .05 (judged in log space only), at most 1% of rows scored by one alone. An
    undefined correlation (all scores equal) passes only where no score differs at all.
    """
    if found.rows < LEAST_ROWS or found.lost > MOST_LOST * (found.rows + found.lost):
        return False
    if found.largest == 0.0:
        return True
    small = found.space == "raw" or found.largest <= MOST_LARGEST
    return small and found.spearman >= LEAST_SPEARMAN and found.overlap >= LEAST_OVERLAP
