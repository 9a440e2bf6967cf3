"""Audited cut: fast scores put right in fp32 outward from every cut, the rest checked by sample."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pilotfish.records import Floats, Ints
from pilotfish.scoring.audit.blocks import Rule, audit_budget, audit_rows, block_rows, spans
from pilotfish.scoring.audit.bounds import upper_rate
from pilotfish.scoring.audit.cutoffs import Boundary, Cuts
from pilotfish.scoring.audit.strata import Mask, is_positive, length_strata, on_axis

Remeasure = Callable[[Ints], Floats]  # pool indices [m], ascending -> their fp32 scores [m]

_LEAST_IN_STRATUM = 2_500  # below this a stratum's blocks would be a large part of it


@dataclass(frozen=True, eq=False)
class Remeasured:
    """Scores that pick the rows fp32 would, as far as the walk and the audit can tell."""

    scores: Floats  # [n] fp32 where re-measured, else fast; nan where unscorable
    remeasured: Mask  # [n] rows whose score is fp32
    kept: Mask  # [n] the rows that `scores` pick
    cuts: tuple[str, ...]  # the boundaries walked from
    walked: int  # rows re-measured by the walk; unscorable rows and those known before count
    blocks: int
    flips: int  # walked rows that fp32 puts on the other side of a cut
    audited: int  # random rows re-measured outside the walk
    audit_flips: int
    bound: float  # upper bound on the share of flips among the rows the walk left; 0: none left
    confidence: float  # of the bound
    swapped: int  # rows that the fast scores alone would have picked wrongly
    calls: int  # of `remeasure`

    @property
    def share(self) -> float:
        """Share of all rows re-measured by the walk, in [0, 1]."""
        return self.walked / max(len(self.scores), 1)

    @property
    def audit_share(self) -> float:
        """Share of all rows re-measured by the audit, in [0, 1]."""
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

    fast [n]: scores of the fast precision, nan where it found none; those rows are always
    re-measured, but for `given_up` [n], which no precision can score. tie [n]: unique order of
    equal scores. lengths [n]: scored tokens. known [n]: fp32 scores at hand already (those of the
    agreement sample), nan elsewhere.

    A *flip* is a row that fp32 puts on the other side of a cut, as the cut now stands, than the
    fast score did, or that fp32 cannot score. Rows are walked by stratum of length and by side,
    nearest first. Nearness is the distance from the cut, in log space where scores are positive,
    times sqrt(length): the error of a mean over t tokens shrinks like 1 / sqrt(t), so short rows
    get the wider band. Corrections move the cuts; the walk ends where no cut asks for more rows.
    Flips that the audit finds are put right and walked around, and the bound, which is about the
    rows as the audit found them, counts them still.

    ValueError: arrays of other lengths, ties that are not unique, a callback that returns another
    number of scores than it was asked for.
    """
    state = _Walk(fast, tie, lengths, cuts=cuts, remeasure=remeasure, rule=rule or Rule())
    if known is not None:
        at_hand = np.flatnonzero(np.isfinite(known))
        state.learn(at_hand, known[at_hand])
    lost = np.isnan(state.fast) if given_up is None else np.isnan(state.fast) & ~given_up
    state.measure(np.flatnonzero(lost))
    state.settle()
    flips = int(state.flips(state.boundaries()).sum())
    drawn, found = state.audit()
    state.settle()
    return state.result(flips=flips, drawn=drawn, found=found)


def net_speedup(fast_ratio: float, share_remeasured: float, audit_share: float = 0.0) -> float:
    """How much faster than fp32 alone, all re-measuring counted; above 1 it pays.

    fast_ratio: speed of the fast precision over fp32's. The shares are parts of the pool's work
    in [0, 1] (of tokens, where they are known, else of rows).
    """
    if not fast_ratio > 0:
        raise ValueError(f"a speed ratio is above 0, not {fast_ratio}")
    return 1.0 / (1.0 / fast_ratio + share_remeasured + audit_share)


class _Walk:
    """What is known so far; only `learn` changes a score."""

    def __init__(
        self,
        fast: Floats,
        tie: Ints,
        lengths: Ints,
        *,
        cuts: Cuts,
        remeasure: Remeasure,
        rule: Rule,
    ) -> None:
        _check(fast, tie, lengths)
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
        """Take in fp32 scores [m] of `rows` [m]."""
        self.scores[rows] = np.where(np.isfinite(values), values, np.nan)
        self.known[rows] = True

    def measure(self, rows: Ints) -> None:
        """Have `rows` re-measured, where there are any."""
        if len(rows) == 0:
            return
        values = np.asarray(self.remeasure(rows), dtype=np.float64)
        if values.shape != rows.shape:
            raise ValueError(f"re-measuring {len(rows)} rows gave scores of shape {values.shape}")
        self.calls += 1
        self.learn(rows, values)

    def settle(self) -> None:
        """Walk until no cut, where it then stands, asks for more rows."""
        while len(rows := self.wanted()):
            self.measure(rows)

    def audit(self) -> tuple[int, int]:
        """Re-measure random rows among those left: how many, and how many of them flip."""
        left = np.flatnonzero(np.isfinite(self.fast) & ~self.known)
        left = left[np.argsort(self.tie[left])]  # whatever the order of the rows
        drawn = left[np.random.default_rng(self.rule.seed).permutation(len(left))]
        wanted = audit_rows(len(self.fast)) if self.rule.audit is None else self.rule.audit
        drawn = np.sort(drawn[:wanted])
        settled = self.boundaries()
        self.measure(drawn)
        return len(drawn), int(self.flips(settled)[drawn].sum())

    def boundaries(self) -> tuple[Boundary, ...]:
        """The cuts as they now stand."""
        return self.cuts.boundaries(self.scores, self.tie)

    def flips(self, boundaries: Iterable[Boundary]) -> Mask:
        """[n] re-measured rows on the other side of any of `boundaries` than their fast score."""
        flips = np.zeros(len(self.fast), dtype=bool)
        for cut in boundaries:
            sides = [cut.before(scores, self.tie) for scores in (self.fast, self.scores)]
            divided = True if cut.rows is None else cut.rows
            flips |= ((sides[0] != sides[1]) | np.isnan(self.scores)) & divided
        return flips & self.known & np.isfinite(self.fast)

    def wanted(self) -> Ints:
        """Rows that some queue asks for and nobody has re-measured; counts the blocks."""
        wanted, self.blocks = np.zeros(len(self.fast), dtype=bool), 0
        rows = self.rule.rows or block_rows(len(self.fast))
        errors = np.where(self.known, on_axis(self.scores, self.log) - self.axis, np.nan)
        extents = spans(errors * self.root, self.stratum, self.rule)
        for cut in self.boundaries():
            flips = self.flips([cut])
            far = np.abs(self.axis - on_axis(np.array([cut.at]), self.log)) * self.root
            for queue, stratum in self._queues(cut, far):
                mask, blocks = audit_budget(
                    far[queue], np.flatnonzero(flips[queue]), float(extents[stratum]),
                    rows=rows, clean=self.rule.clean,
                )  # fmt: skip
                wanted[queue[mask]] = True
                self.blocks += blocks
        return np.flatnonzero(wanted & ~self.known)

    def _queues(self, cut: Boundary, far: Floats) -> Iterator[tuple[Ints, int]]:
        """Each side and stratum of a cut: its rows, nearest first, and the stratum."""
        live = np.isfinite(far) if cut.rows is None else np.isfinite(far) & cut.rows
        rows = np.flatnonzero(live)
        rows = rows[np.lexsort((self.tie[rows], far[rows]))]
        side = cut.before(self.fast, self.tie)[rows]
        for stratum in range(int(self.stratum.max(initial=0)) + 1):
            here = self.stratum[rows] == stratum
            yield rows[here & side], stratum
            yield rows[here & ~side], stratum

    def result(self, *, flips: int, drawn: int, found: int) -> Remeasured:
        """All of it, frozen."""
        kept = self.cuts.kept(self.scores, self.tie)
        left = np.isfinite(self.fast) & ~self.known
        return Remeasured(
            scores=self.scores,
            remeasured=self.known,
            kept=kept,
            cuts=tuple(cut.name for cut in self.boundaries()),
            walked=int(self.known.sum()) - drawn,
            blocks=self.blocks,
            flips=flips,
            audited=drawn,
            audit_flips=found,
            bound=upper_rate(found, drawn, self.rule.confidence) if left.any() else 0.0,
            confidence=self.rule.confidence,
            swapped=int((self.cuts.kept(self.fast, self.tie) & ~kept).sum()),
            calls=self.calls,
        )


def _check(fast: Floats, tie: Ints, lengths: Ints) -> None:
    if not len(fast) == len(tie) == len(lengths):
        raise ValueError(f"{len(fast)} scores, {len(tie)} ties and {len(lengths)} lengths differ")
    if len(np.unique(tie)) != len(tie):
        raise ValueError("two rows share a place in the tie order")
