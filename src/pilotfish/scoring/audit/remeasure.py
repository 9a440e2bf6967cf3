"""Audited cut: re-measure fast scores in fp32 outward from every cut, and audit a sample.

A queue is one side of a cut and one stratum of length: its rows, nearest to the cut first. Each is
re-measured block after block, until enough successive blocks hold no flip.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pilotfish.records import Floats, Ints, Mask
from pilotfish.scoring.audit.agreement import is_positive, length_strata, on_axis
from pilotfish.scoring.audit.bounds import upper_rate
from pilotfish.scoring.audit.cutoffs import Boundary, Cuts

Remeasure = Callable[[Ints], Floats]  # pool indices [m], ascending -> their fp32 scores [m]

_LEAST_IN_STRATUM = 2_500  # with fewer rows, blocks would be a large part of a stratum
_ENOUGH = 30  # errors in a stratum; with fewer, the errors of all strata are used
# One error in a thousand is left out when a block's extent is set: one row that broke down would
# make the whole pool be re-measured, and such rows, which lie anywhere, are found by the audit.
_BROKEN = 0.001


@dataclass(frozen=True, slots=True)
class Rule:
    """When re-measuring stops, and what is audited then (chosen by benchmarks/audited_cut.py)."""

    clean: int = 3  # successive blocks without a flip that end a queue
    rows: int | None = None  # fewest rows of a block; None: `block_rows(n)`
    width: float = 1.5  # rms errors that a block spans at least
    # Part of the largest error so far that a block spans at least: three blocks then reach 1.5
    # times further than any error did.
    reach: float = 0.5
    strata: int = 4  # groups of length, each re-measured separately
    audit: int | None = None  # random rows re-measured elsewhere; None: `audit_rows(n)`
    confidence: float = 0.95  # of the bound on the flips that are left
    seed: int = 0  # of the random rows


@dataclass(frozen=True, eq=False)
class Remeasured:
    """Scores that select the rows fp32 would select, as far as re-measuring and audit can tell."""

    scores: Floats  # [n] fp32 where re-measured, else fast; nan where unscorable
    remeasured: Mask  # [n] rows whose score is fp32
    kept: Mask  # [n] rows that `scores` select
    cuts: tuple[str, ...]  # names of the boundaries
    walked: int  # rows re-measured around the cuts; unscorable and known rows count
    blocks: int  # re-measured
    flips: int  # rows among them that fp32 puts on the other side of a cut
    audited: int  # random rows re-measured elsewhere
    audit_flips: int
    bound: float  # upper bound on the share of flips among the rows left; 0 if no row is left
    confidence: float  # of the bound
    swapped: int  # rows that the fast scores alone would have selected wrongly
    calls: int  # of `remeasure`

    @property
    def share(self) -> float:
        """Share of all rows that were re-measured around the cuts, in [0, 1]."""
        return self.walked / max(len(self.scores), 1)

    @property
    def audit_share(self) -> float:
        """Share of all rows that were re-measured by the audit, in [0, 1]."""
        return self.audited / max(len(self.scores), 1)


def remeasure_near_cuts(
    fast: Floats,
    tie: Ints,
    lengths: Ints,
    cuts: Cuts,
    remeasure: Remeasure,
    *,
    rule: Rule | None = None,
    known: Floats | None = None,
    given_up: Mask | None = None,
) -> Remeasured:
    """Re-measure outward from every cut until nothing flips, then audit the rest.

    A *flip* is a row that fp32 cannot score, or puts on another side of a cut, as the cut stands
    then, than the fast score did. Nearness is the distance from the cut, in log space where scores
    are positive, times sqrt(length): the error of a mean over t tokens shrinks like 1 / sqrt(t), so
    short rows get the wider band. Corrections move the cuts; re-measuring ends where no cut
    requires more rows. Flips that the audit finds are corrected and re-measured around too; the
    bound is about the rows as the audit found them, and still counts them.

    Args:
        fast: [n] scores of the fast precision. Rows with nan are always re-measured.
        tie: [n] unique order of rows with equal scores.
        lengths: [n] scored tokens.
        cuts: The ranker and its budget.
        remeasure: Returns the fp32 scores of some rows.
        rule: When to stop, and what to audit.
        known: [n] fp32 scores that are known already, nan elsewhere.
        given_up: [n] rows that no precision can score; they are not re-measured.

    Raises:
        ValueError: Arrays differ in length, ties are not unique, or `remeasure` returned another
            number of scores than it was given rows.
    """
    state = _State(fast, tie, lengths, cuts, remeasure, rule or Rule())
    if known is not None:
        at_hand = np.flatnonzero(np.isfinite(known))
        state.learn(at_hand, known[at_hand])
    lost = np.isnan(state.fast) if given_up is None else np.isnan(state.fast) & ~given_up
    state.measure(np.flatnonzero(lost))
    state.settle()
    flips = int(state.flips(state.boundaries()).sum())
    drawn, found = state.audit()
    state.settle()

    kept = cuts.kept(state.scores, tie)
    left = np.isfinite(state.fast) & ~state.known
    return Remeasured(
        scores=state.scores,
        remeasured=state.known,
        kept=kept,
        cuts=tuple(cut.name for cut in state.boundaries()),
        walked=int(state.known.sum()) - drawn,
        blocks=state.blocks,
        flips=flips,
        audited=drawn,
        audit_flips=found,
        bound=upper_rate(found, drawn, state.rule.confidence) if left.any() else 0.0,
        confidence=state.rule.confidence,
        swapped=int((cuts.kept(state.fast, tie) & ~kept).sum()),
        calls=state.calls,
    )


class _State:
    """The scores known so far; only `learn` changes one."""

    def __init__(
        self,
        fast: Floats,
        tie: Ints,
        lengths: Ints,
        cuts: Cuts,
        remeasure: Remeasure,
        rule: Rule,
    ) -> None:
        if not len(fast) == len(tie) == len(lengths):
            raise ValueError(
                f"{len(fast)} scores, {len(tie)} ties and {len(lengths)} lengths differ"
            )
        if len(np.unique(tie)) != len(tie):
            raise ValueError("two rows share a place in the tie order")
        self.fast = np.where(np.isfinite(fast), fast, np.nan)
        self.tie, self.cuts, self.remeasure, self.rule = tie, cuts, remeasure, rule
        self.root = np.sqrt(np.maximum(lengths, 1))  # [n]
        self.stratum = length_strata(lengths, most=rule.strata, least=_LEAST_IN_STRATUM)
        self.log = is_positive(self.fast)
        self.axis = on_axis(self.fast, self.log)  # [n]
        self.scores = self.fast.copy()
        self.known = np.zeros(len(fast), dtype=bool)
        self.blocks, self.calls = 0, 0

    def learn(self, rows: Ints, values: Floats) -> None:
        """Take in the fp32 scores [m] of some rows [m]."""
        self.scores[rows] = np.where(np.isfinite(values), values, np.nan)
        self.known[rows] = True

    def measure(self, rows: Ints) -> None:
        """Re-measure some rows [m], if there are any."""
        if len(rows) == 0:
            return
        values = np.asarray(self.remeasure(rows), dtype=np.float64)
        if values.shape != rows.shape:
            raise ValueError(f"re-measuring {len(rows)} rows gave scores of shape {values.shape}")
        self.calls += 1
        self.learn(rows, values)

    def settle(self) -> None:
        """Re-measure until no cut, where it then stands, requires more rows."""
        while len(rows := self.required()):
            self.measure(rows)

    def audit(self) -> tuple[int, int]:
        """Re-measure random rows among those left; return their number, and how many flip."""
        left = np.flatnonzero(np.isfinite(self.fast) & ~self.known)
        left = left[np.argsort(self.tie[left])]  # whatever the order of the rows
        drawn = left[np.random.default_rng(self.rule.seed).permutation(len(left))]
        count = audit_rows(len(self.fast)) if self.rule.audit is None else self.rule.audit
        drawn = np.sort(drawn[:count])
        settled = self.boundaries()
        self.measure(drawn)
        return len(drawn), int(self.flips(settled)[drawn].sum())

    def boundaries(self) -> tuple[Boundary, ...]:
        """Return the cuts where they now stand."""
        return self.cuts.boundaries(self.scores, self.tie)

    def flips(self, boundaries: Iterable[Boundary]) -> Mask:
        """Return [n] the re-measured rows that changed sides at any of the boundaries."""
        flips = np.zeros(len(self.fast), dtype=bool)
        for cut in boundaries:
            sides = [cut.before(scores, self.tie) for scores in (self.fast, self.scores)]
            divided = True if cut.rows is None else cut.rows
            flips |= ((sides[0] != sides[1]) | np.isnan(self.scores)) & divided
        return flips & self.known & np.isfinite(self.fast)

    def required(self) -> Ints:
        """Return the rows that some queue requires and that are not re-measured; count blocks."""
        required, self.blocks = np.zeros(len(self.fast), dtype=bool), 0
        rows = self.rule.rows or block_rows(len(self.fast))
        errors = np.where(self.known, on_axis(self.scores, self.log) - self.axis, np.nan)
        extents = spans(errors * self.root, self.stratum, self.rule)
        for cut in self.boundaries():
            flips = self.flips([cut])
            far = np.abs(self.axis - on_axis(np.array([cut.at]), self.log)) * self.root
            for queue, stratum in self._queues(cut, far):
                at = np.flatnonzero(flips[queue])
                span, clean = float(extents[stratum]), self.rule.clean
                mask, blocks = audit_budget(far[queue], at, span, rows=rows, clean=clean)
                required[queue[mask]] = True
                self.blocks += blocks
        return np.flatnonzero(required & ~self.known)

    def _queues(self, cut: Boundary, far: Floats) -> Iterator[tuple[Ints, int]]:
        """Yield each side and stratum of a cut: its rows, nearest first, and the stratum."""
        live = np.isfinite(far) if cut.rows is None else np.isfinite(far) & cut.rows
        rows = np.flatnonzero(live)
        rows = rows[np.lexsort((self.tie[rows], far[rows]))]
        side = cut.before(self.fast, self.tie)[rows]
        for stratum in range(int(self.stratum.max(initial=0)) + 1):
            here = self.stratum[rows] == stratum
            yield rows[here & side], stratum
            yield rows[here & ~side], stratum


def block_rows(n: int) -> int:
    """Return the fewest rows of a block in a pool of n: two cuts begin with 60 rows, or 2.4%."""
    return max(5, n // 2_000)


def audit_rows(n: int) -> int:
    """Return how many random rows to audit in a pool of n: 2% of it, so that little speed is lost.

    3,000 at most, where no flip bounds their share by 0.1%; 300 at least, where it is 1%.
    """
    return min(max(n // 50, 300), 3_000)


def spans(errors: Floats, stratum: Ints, rule: Rule) -> Floats:
    """Return [strata] the least extent of a block, from the errors [n] so far (nan: none).

    Errors are differences on the axis times sqrt(length), as distances in a queue are.
    """
    met = np.isfinite(errors)
    found = []
    for label in range(int(stratum.max(initial=0)) + 1):
        inside = met & (stratum == label)
        sizes = np.sort(np.abs(errors[inside if inside.sum() >= _ENOUGH else met]))
        sizes = sizes[: len(sizes) - int(_BROKEN * len(sizes))]
        if len(sizes):
            rms = float(np.sqrt(np.mean(sizes**2)))
            found.append(max(rule.width * rms, rule.reach * float(sizes[-1])))
        else:
            found.append(0.0)
    return np.array(found)


def audit_budget(
    far: Floats, flips: Ints, span: float, *, rows: int, clean: int
) -> tuple[Mask, int]:
    """Return which rows of a queue must be re-measured [m], and how many blocks that is.

    Required are the first `clean` blocks, and as many on both sides of every block with a flip.

    Args:
        far: [m] distances from the cut, ascending.
        flips: Positions that are known to flip.
        span: Least extent of a block.
        rows: Fewest rows of a block.
        clean: Successive blocks without a flip that end the queue.
    """
    # blocks begin at `edges`; they end `clean` blocks past the last flip, and the rest is one block
    last, edges, beyond = int(flips.max(initial=-1)), [0], 0
    while edges[-1] < len(far) and beyond < clean:
        start = edges[-1]
        beyond += start > last
        wide = int(np.searchsorted(far, far[start] + span, side="right"))
        edges.append(min(len(far), max(start + rows, wide)))
    if edges[-1] != len(far):
        edges.append(len(far))
    blocks = np.zeros(len(edges) - 1, dtype=bool)
    blocks[:clean] = True
    for block in np.unique(np.searchsorted(np.array(edges), flips, side="right") - 1):
        blocks[max(0, block - clean) : block + 1 + clean] = True
    return np.repeat(blocks, np.diff(edges)), int(blocks.sum())


def net_speedup(fast_ratio: float, share_remeasured: float, audit_share: float = 0.0) -> float:
    """Return how much faster than fp32 alone, all re-measuring counted; above 1 it pays.

    Args:
        fast_ratio: Speed of the fast precision over that of fp32.
        share_remeasured: Part of the pool's work re-measured around the cuts, in [0, 1]: of tokens,
            where they are known, else of rows.
        audit_share: Part of the pool's work re-measured by the audit, in [0, 1].

    Raises:
        ValueError: The ratio is not above 0.
    """
    if not fast_ratio > 0:
        raise ValueError(f"a speed ratio is above 0, not {fast_ratio}")
    return 1.0 / (1.0 / fast_ratio + share_remeasured + audit_share)
