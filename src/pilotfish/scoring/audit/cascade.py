"""Cascade: a cheap model scores every row, the intended one only where its picks may lie.

A recall-targeted and distribution-free procedure, never the same answer as scoring everything.
After conformal risk control (Angelopoulos et al. 2022, arXiv:2208.02814) and learn-then-test
(Angelopoulos et al. 2021, arXiv:2110.01052); the monotone case is Bates et al. 2021,
arXiv:2101.02703. A row costs 1 where the intended model would pick it and it is not passed on,
which can only fall as more rows are passed on: one exact bound then holds at the point chosen, with
no correction for the points looked at.
"""

from dataclasses import dataclass

import numpy as np

from pilotfish.budget import resolve
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Top
from pilotfish.methods.rankers.base import best_first
from pilotfish.records import Floats, Ints
from pilotfish.scoring.audit.bounds import most_drawn, most_marked
from pilotfish.scoring.audit.cutoffs import Cuts
from pilotfish.scoring.audit.strata import Mask

# Parts of the allowed chance to fail that go to not knowing where the true cut lies in the sample,
# and how many rows are eligible at all; the rest goes to the misses.
_FOR_CUT, _FOR_ELIGIBLE = 0.2, 0.05
# Below some 65 picks in the sample nothing can be left out; twice as many let a few be missed.
_PICKS_SEEN, _LEAST, _MOST_DRAWN = 150, 1_000, 1 / 3
# So many rows not passed on, for each as many as the budget leaves, show misses of 4% of the picks.
_PICKS_AUDITED, _MOST_AUDITED = 100, 1 / 20


@dataclass(frozen=True, eq=False)
class Cascade:
    """Which rows the intended model must score, and what that was made to hold."""

    passed: Mask  # [n] rows to score with the intended model, calibration rows included
    threshold: tuple[float, float]  # lowest and highest cheap score passed on; all between are
    target: float  # recall
    confidence: float  # that the recall is reached
    picked: int  # rows asked for
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
    """UsageError (exit 2) for rankers and budgets without a fixed count, before any row is read."""
    _picked(cuts, 1)


def sizes(cuts: Cuts, n: int) -> tuple[int, int]:
    """(rows to calibrate on, rows to audit) of a pool of n: a smaller budget asks for more."""
    share = max(1, _picked(cuts, n)) / max(1, n)
    drawn = max(_LEAST, round(_PICKS_SEEN / share))
    audited = round(_PICKS_AUDITED / share)
    return min(drawn, int(n * _MOST_DRAWN)), min(audited, int(n * _MOST_AUDITED))


def at_fewer(low: float, picked: int, fewer: int) -> float:
    """Lower bound of the recall of a smaller budget, given that of the one planned for.

    The first `fewer` picks are among the first `picked`; at worst every miss is one of them.
    """
    return max(0.0, 1.0 - (1.0 - low) * picked / max(1, fewer))


def draw(tie: Ints, m: int, *, seed: int, among: Mask | None = None) -> Ints:
    """Up to m rows drawn evenly `among` [n] (None: all), ascending; free of the rows' order."""
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
    """Choose which rows to pass on, so that recall >= `target` with `confidence`.

    cheap [n]: scores of the cheap model, nan (always passed on) where it found none. rows [m]: an
    even draw from the whole pool (`draw`), with the intended model's scores of it in `intended`
    [m], nan where unscorable. Recall is over the rows the intended model would pick from the whole
    pool; the confidence is over the draw, for any pool and any two models.

    Rows are passed on by their distance, in cheap ranks, from a window as wide as the budget. A
    gate moves the window inward, by as many rows as a fifth of the sample (drawn by `seed`, and not
    used again) finds beyond it: the two models' scores need no common scale. Which sampled rows
    are picks is not known, for the true cut is not; so as many of the best as could be are taken
    for picks. A sample too small for any promise passes everything on. UsageError (exit 2) for
    rankers and budgets without a fixed count.
    """
    k, n, fail = _picked(cuts, len(cheap)), len(cheap), 1.0 - confidence
    pilot, test = _split(tie[rows], cuts, seed)  # positions in the sample
    away = _away(cheap, tie, cuts, near=_beyond(intended[pilot], cuts), k=k)
    order = test[cuts.ranker.rank(intended[test], tie[rows[test]]).order]  # best first
    rest, m = n - len(pilot), len(test)
    fewest = rest - most_marked(m - len(order), m, rest, 1.0 - fail * _FOR_ELIGIBLE)
    allowed = int((1.0 - target) * min(k, fewest) + 1e-9)
    likely = rows[order[: most_drawn(rest, min(k, rest), m, 1.0 - fail * _FOR_CUT)]]
    misses = _most_misses(rest, m, allowed, 1.0 - fail * (1.0 - _FOR_CUT - _FOR_ELIGIBLE))
    passed = np.asarray(away <= _limit(away[likely], misses))
    missed = int((~passed[likely]).sum())
    reached = cheap[passed & np.isfinite(cheap)]
    ends = (float(reached.min()), float(reached.max())) if len(reached) else (np.nan, np.nan)
    passed[rows] = True
    return Cascade(passed, ends, target, confidence, k, len(rows), missed)


def _split(tie: Ints, cuts: Cuts, seed: int) -> tuple[Ints, Ints]:
    """Positions in a sample that place the window (a fifth, where there is a gate), and the rest.

    A window placed by rows that are then counted as misses would void the promise.
    """
    drawn = np.argsort(tie)[np.random.default_rng(seed).permutation(len(tie))]
    count = 0 if _near_bound(cuts) is None else len(tie) // 5
    return drawn[:count], drawn[count:]


def _near_bound(cuts: Cuts) -> float | None:
    """The gate at the end that is kept, where there is one."""
    high = isinstance(cuts.ranker, Top) and cuts.ranker.direction == "high"
    return cuts.ranker.gate.below if high else cuts.ranker.gate.above


def _beyond(intended: Floats, cuts: Cuts) -> float:
    """Share of scores that lie beyond the gate they meet first."""
    bound, scores = _near_bound(cuts), intended[np.isfinite(intended)]
    if bound is None or not len(scores):
        return 0.0
    high = isinstance(cuts.ranker, Top) and cuts.ranker.direction == "high"
    return float((scores >= bound if high else scores <= bound).mean())


def _limit(away: Floats, misses: int) -> float:
    """The distance to pass on, so that at most `misses` of the likely picks [j] are left out."""
    if misses < 0:
        return np.inf
    farthest = np.sort(away)[::-1]
    return max(0.0, float(farthest[misses])) if misses < len(farthest) else 0.0


def _picked(cuts: Cuts, n: int) -> int:
    """How many rows are asked for; UsageError where that is no fixed number from one end."""
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
    """[n] cheap ranks from each row to the window; 0 inside it, -1 where there is no score.

    near: share of the scored rows that the window leaves before it.
    """
    assert isinstance(cuts.ranker, Top)
    scored = np.flatnonzero(np.isfinite(cheap))
    ranked = best_first(cheap, tie, scored, cuts.ranker.direction)
    first = min(round(near * len(ranked)), max(0, len(ranked) - k))
    place = np.arange(len(ranked))
    away = np.full(len(cheap), -1.0)
    away[ranked] = np.maximum(0, np.maximum(first - place, place - (first + k) + 1))
    return away


def _most_misses(n: int, m: int, allowed: int, confidence: float) -> int:
    """The most misses a sample of m may show while the rest holds at most `allowed`; -1: none."""
    low, high = -1, m
    while low < high:
        middle = (low + high + 1) // 2
        fits = most_marked(middle, m, n, confidence) - middle <= allowed
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


@dataclass(frozen=True, eq=False)
class Recall:
    """How many of the intended model's picks the cascade found, from a sample held out."""

    value: float  # estimate, in [0, 1]
    low: float
    high: float
    confidence: float  # of the interval
    audited: int  # rows drawn from those not passed on
    found: int  # of them, rows better than the last pick
    kept: Mask  # [n] the picks, audited rows included

    @property
    def sentence(self) -> str:
        """For the report: never sold as the same rows."""
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

    intended [n]: scores of the intended model, nan where it did not or could not score; `rows` [m]
    are among those it scored, and join the picks they belong to.

    Rows not passed on that are better than the last pick are counted by exact bounds, half the
    chance of failing on each side. Low: all of them belong into the true picks. High: only those
    surely do that are better than the (k - bound)-th pick.
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
    """How many of `rows` would stand among the first k if they joined the ranking one by one."""
    if k <= 0 or not len(rows):
        return 0
    joined = np.full(len(tie), np.nan)
    joined[ranked] = intended[ranked]
    joined[rows] = intended[rows]
    order = cuts.ranker.rank(joined, tie).order
    fresh = np.isin(order, rows)
    return int((fresh & (np.cumsum(~fresh) < k)).sum())


def _estimate(order: Ints, weight: Floats, rows: Ints, k: int) -> float:
    """Recall, each audited row standing for as many as it was drawn from."""
    if not len(order):
        return 1.0
    ahead = np.cumsum(weight[order]) - weight[order]
    fresh = np.isin(order, rows) & (ahead < k)
    size = max(1.0, min(float(k), float(weight[order].sum())))
    return 1.0 - float((weight[order] - 1.0)[fresh].sum()) / size


def _short(share: float) -> str:
    """.97, .955, 1: as many digits as say something."""
    return f"{share:.3f}".rstrip("0").rstrip(".").removeprefix("0") or "0"
