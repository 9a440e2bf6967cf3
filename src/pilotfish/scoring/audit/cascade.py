"""Cascade: a cheap model scores every row, the intended one only where its picks may lie.

The procedure targets a recall and assumes no distribution; it never gives the very rows that
scoring everything would. It follows conformal risk control (Angelopoulos et al. 2022,
arXiv:2208.02814) and learn-then-test (Angelopoulos et al. 2021, arXiv:2110.01052); the monotone
case is Bates et al. 2021, arXiv:2101.02703. The loss of a row is 1 if the intended model would pick
it and it is not passed on. That can only fall as more rows are passed on, so one exact bound holds
at the threshold chosen, without a correction for the thresholds that were tried.
"""

from dataclasses import dataclass

import numpy as np

from pilotfish.budget import resolve
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Top
from pilotfish.methods.rankers.base import best_first
from pilotfish.records import Floats, Ints, Mask
from pilotfish.scoring.audit.bounds import most_drawn, most_marked
from pilotfish.scoring.audit.cutoffs import Cuts

# Parts of the allowed chance to fail: for not knowing where the true cut lies in the sample, and
# how many rows are eligible at all. The rest is for the misses.
_FOR_CUT, _FOR_ELIGIBLE = 0.2, 0.05
# With fewer than about 65 picks in the sample nothing can be left out; twice as many allow misses.
_PICKS_SEEN, _LEAST, _MOST_DRAWN = 150, 1_000, 1 / 3
# Audited rows for a budget of the whole pool; so many show misses of 4% of the picks.
_PICKS_AUDITED, _MOST_AUDITED = 100, 1 / 20


@dataclass(frozen=True, eq=False)
class Cascade:
    """Which rows the intended model must score, and the recall that they were planned for."""

    passed: Mask  # [n] rows to score with the intended model, calibration rows included
    threshold: tuple[float, float]  # lowest and highest cheap score passed on; all between are
    target: float  # recall, in (0, 1)
    confidence: float  # that the recall is reached
    picked: int  # rows that will be selected
    calibration: int  # rows drawn to find the threshold
    missed: int  # of those, rows taken for picks that the threshold alone leaves out

    @property
    def share(self) -> float:
        """Share of all rows that the intended model scores, in [0, 1]."""
        return float(self.passed.mean()) if len(self.passed) else 0.0

    @property
    def everything(self) -> bool:
        """Whether no row can be left out with this confidence."""
        return bool(self.passed.all())


def check(cuts: Cuts) -> None:
    """Raise UsageError for a ranker or budget without a fixed count, before any row is read."""
    _picked(cuts, 1)


def sizes(cuts: Cuts, n: int) -> tuple[int, int]:
    """Return (rows to calibrate on, rows to audit) in a pool of n; a smaller budget needs more."""
    share = max(1, _picked(cuts, n)) / max(1, n)
    drawn = max(_LEAST, round(_PICKS_SEEN / share))
    audited = round(_PICKS_AUDITED / share)
    return min(drawn, int(n * _MOST_DRAWN)), min(audited, int(n * _MOST_AUDITED))


def recall_at_fewer(low: float, picked: int, fewer: int) -> float:
    """Return the lower bound of the recall of a smaller budget.

    `low` is that of the planned budget of `picked` rows. The first `fewer` of them are among the
    first `picked`; at worst every miss is one of them.
    """
    return max(0.0, 1.0 - (1.0 - low) * picked / max(1, fewer))


def draw(tie: Ints, m: int, *, seed: int, among: Mask | None = None) -> Ints:
    """Draw up to m rows evenly `among` [n] (None: all); return their indices, ascending.

    `tie` [n] orders the rows by content hash, so the draw does not depend on the order of files.
    """
    rows = np.arange(len(tie)) if among is None else np.flatnonzero(among)
    rows = rows[np.argsort(tie[rows])]
    return np.sort(rows[np.random.default_rng(seed).permutation(len(rows))][:m])


def plan(
    cheap: Floats,
    tie: Ints,
    cuts: Cuts,
    rows: Ints,
    intended: Floats,
    *,
    target: float = 0.95,
    confidence: float = 0.95,
    seed: int = 0,
) -> Cascade:
    """Choose which rows to pass on, so that the recall reaches the target with the confidence.

    The recall is over the rows that the intended model would pick from the whole pool; the
    confidence is over the draw, for any pool and any two models.

    Rows are passed on by their distance, in cheap ranks, from a window as wide as the budget. A
    gate moves the window inward by as many rows as a fifth of the sample (drawn by `seed`, and not
    used again) has beyond it, so the scores of the two models need no common scale. Which sampled
    rows are picks is unknown, because the true cut is; so as many of the best rows as could be
    picks are taken for picks. A sample too small for any promise passes everything on.

    Args:
        cheap: [n] scores of the cheap model; rows with nan are always passed on.
        tie: [n] order of rows with equal scores.
        cuts: The ranker and its budget.
        rows: [m] an even draw from the whole pool (`draw`).
        intended: [m] the intended model's scores of those rows; nan where unscorable.
        target: Recall to reach, in (0, 1).
        confidence: That it is reached, in (0, 1).
        seed: Of the split of the sample.

    Raises:
        UsageError: The ranker or budget has no fixed count.
    """
    k, n, fail = _picked(cuts, len(cheap)), len(cheap), 1.0 - confidence
    # A fifth of the sample places the window if there is a gate. Rows that place it must not be
    # counted as misses too: that would void the promise. These are positions in the sample.
    high = isinstance(cuts.ranker, Top) and cuts.ranker.direction == "high"
    bound = cuts.ranker.gate.below if high else cuts.ranker.gate.above  # at the end that is kept
    drawn = np.argsort(tie[rows])[np.random.default_rng(seed).permutation(len(rows))]
    pilot, test = np.split(drawn, [0 if bound is None else len(rows) // 5])
    scored = intended[pilot][np.isfinite(intended[pilot])]
    beyond = 0.0
    if bound is not None and len(scored):
        beyond = float((scored >= bound if high else scored <= bound).mean())
    away = _away(cheap, tie, cuts, near=beyond, k=k)
    order = test[cuts.ranker.rank(intended[test], tie[rows[test]]).order]  # best first
    rest, m = n - len(pilot), len(test)
    fewest = rest - most_marked(m - len(order), m, rest, 1.0 - fail * _FOR_ELIGIBLE)
    allowed = int((1.0 - target) * min(k, fewest) + 1e-9)
    likely = rows[order[: most_drawn(rest, min(k, rest), m, 1.0 - fail * _FOR_CUT)]]
    misses = _most_misses(rest, m, allowed, 1.0 - fail * (1.0 - _FOR_CUT - _FOR_ELIGIBLE))
    # the distance to pass on, so that at most `misses` of the likely picks are left out
    farthest = np.sort(away[likely])[::-1]
    limit = np.inf if misses < 0 else 0.0
    if 0 <= misses < len(farthest):
        limit = max(0.0, float(farthest[misses]))
    passed = np.asarray(away <= limit)
    missed = int((~passed[likely]).sum())
    reached = cheap[passed & np.isfinite(cheap)]
    ends = (float(reached.min()), float(reached.max())) if len(reached) else (np.nan, np.nan)
    passed[rows] = True
    return Cascade(passed, ends, target, confidence, k, len(rows), missed)


def _picked(cuts: Cuts, n: int) -> int:
    """Return how many rows are selected; UsageError if that is no fixed number from one end."""
    if not isinstance(cuts.ranker, Top) or cuts.quotas is not None:
        raise UsageError(
            "a cascade needs one cut at one end of the ranking, which the middle and quotas lack",
            hint="score the pool with the intended model, or pass --direction high or low",
        )
    if cuts.budget.unit == "tokens":
        raise UsageError(
            "a cascade promises a share of a known number of rows, which a token budget is not",
            hint="give the budget in rows or percent",
        )
    return min(resolve(cuts.budget, n), n)


def _away(cheap: Floats, tie: Ints, cuts: Cuts, *, near: float, k: int) -> Floats:
    """Return [n] cheap ranks from each row to a window of k; 0 inside it, -1 where unscorable.

    near: share of the scored rows that lie before the window.
    """
    assert isinstance(cuts.ranker, Top)
    scored = np.flatnonzero(np.isfinite(cheap))
    ranked = best_first(cheap, tie, scored, cuts.ranker.direction)
    first = min(round(near * len(ranked)), max(0, len(ranked) - k))
    rank = np.arange(len(ranked))
    away = np.full(len(cheap), -1.0)
    away[ranked] = np.maximum(0, np.maximum(first - rank, rank - (first + k) + 1))
    return away


def _most_misses(n: int, m: int, allowed: int, confidence: float) -> int:
    """Return the most misses that m rows of n may show while the rest holds at most `allowed`.

    -1 where no number of them ensures that.
    """
    low, high = -1, m
    while low < high:
        middle = (low + high + 1) // 2
        fits = most_marked(middle, m, n, confidence) - middle <= allowed
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


@dataclass(frozen=True, eq=False)
class Recall:
    """Which share of the intended model's picks the cascade found, from a sample held out."""

    value: float  # estimate, in [0, 1]
    low: float
    high: float
    confidence: float  # of the interval [low, high]
    audited: int  # rows drawn from those not passed on
    found: int  # of them, rows better than the last pick
    kept: Mask  # [n] the picks, audited rows included

    @property
    def sentence(self) -> str:
        """For the report, which must not call the rows the same."""
        return (
            f"recall {_short(self.value)} [{_short(self.low)}, {_short(self.high)}] of the rows "
            "the intended model would have picked; not identical"
        )


def recall(
    cascade: Cascade,
    tie: Ints,
    cuts: Cuts,
    intended: Floats,
    rows: Ints,
    *,
    confidence: float = 0.95,
) -> Recall:
    """Estimate the recall by rows drawn evenly from those not passed on (`draw(among=~passed)`).

    Rows not passed on that are better than the last pick are counted by exact bounds, with half the
    chance to fail on each side. Low: all of them belong to the true picks. High: only those do that
    are better than the (k - bound)-th pick.

    Args:
        cascade: The plan.
        tie: [n] order of rows with equal scores.
        cuts: The ranker and its budget.
        intended: [n] scores of the intended model; nan where it did not or could not score.
        rows: [m] the rows drawn, which the intended model scored; they join the picks if they are
            good enough.
        confidence: Of the interval.
    """
    k, outside = cascade.picked, int((~cascade.passed).sum())
    seen = np.where(cascade.passed, intended, np.nan)
    ranked = cuts.ranker.rank(seen, tie).order
    half = 1.0 - (1.0 - confidence) / 2.0
    found = _better(ranked, k, rows, tie=tie, cuts=cuts, intended=intended)
    most = most_marked(found, len(rows), outside, half)
    surely = (
        _better(ranked, k - most, rows, tie=tie, cuts=cuts, intended=intended) if k > most else 0
    )
    least = outside - most_marked(len(rows) - surely, len(rows), outside, half)
    size = max(1, min(k, len(ranked) + most))
    seen[rows] = intended[rows]
    weight = np.ones(len(tie))
    weight[rows] = outside / max(len(rows), 1)
    value = _estimate(cuts.ranker.rank(seen, tie).order, weight, rows, k)
    low = max(0.0, 1.0 - (most - surely) / size)
    high = 1.0 - max(0, least - found) / size
    kept = cuts.kept(seen, tie)
    return Recall(min(max(value, low), high), low, high, confidence, len(rows), found, kept)


def _better(ranked: Ints, k: int, rows: Ints, *, tie: Ints, cuts: Cuts, intended: Floats) -> int:
    """Return how many of `rows` [m] would be among the first k if each joined the ranking alone."""
    if k <= 0 or not len(rows):
        return 0
    joined = np.full(len(tie), np.nan)
    joined[ranked] = intended[ranked]
    joined[rows] = intended[rows]
    order = cuts.ranker.rank(joined, tie).order
    fresh = np.isin(order, rows)
    return int((fresh & (np.cumsum(~fresh) < k)).sum())


def _estimate(order: Ints, weight: Floats, rows: Ints, k: int) -> float:
    """Return the recall, where each audited row counts for the `weight` rows it was drawn from."""
    if not len(order):
        return 1.0
    ahead = np.cumsum(weight[order]) - weight[order]
    fresh = np.isin(order, rows) & (ahead < k)
    size = max(1.0, min(float(k), float(weight[order].sum())))
    return 1.0 - float((weight[order] - 1.0)[fresh].sum()) / size


def _short(share: float) -> str:
    """Format a share as .97, .955 or 1."""
    return f"{share:.3f}".rstrip("0").rstrip(".").removeprefix("0") or "0"
