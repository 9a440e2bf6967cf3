"""Is a new arm no worse than a reference by more than a margin? One-sided, over seeds and items."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.interval import Estimate, difference
from pilotfish.stats.power import Needed, needed

Floats = NDArray[np.float64]
Outcome = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True)
class NonInferior:
    """What one guard found; every difference is new - ref, turned so that above 0 is better.

    difference: None when no item was usable. low, high: each a one-sided (1 - alpha) bound of it,
    so together a (1 - 2 alpha) interval; None when no interval can be given (a trained arm with
    one seed), and then the outcome is inconclusive.
    p_fail: one-sided p value against "not worse by more than the margin": small speaks for FAIL;
    this is what Holm's correction takes when several guards are read at once. p_pass: against
    "worse by the margin or more": small speaks for PASS. They add up to 1 wherever items spread.
    needed: seeds or items that would decide, where the outcome is inconclusive with an interval.
    estimate: the two-sided interval behind it, as `stats.difference` gave it, turned likewise.
    """

    outcome: Outcome
    difference: float | None
    low: float | None
    high: float | None
    p_fail: float | None
    p_pass: float | None
    needed: Needed | None
    margin: float
    estimate: Estimate


def noninferior(
    new: Floats,
    ref: Floats,
    *,
    margin: float,
    higher_is_better: bool = True,
    alpha: float = 0.05,
    fixed: tuple[bool, bool] = (False, False),
) -> NonInferior:
    """Compare `new` [s, n] with `ref` [s', n] on the same items against `margin` >= 0.

    PASS where low > -margin, FAIL where high < -margin, else inconclusive, which is no pass. The
    margin is in units of the metric. `fixed` marks an arm that no seed changes (an untrained
    base): one row. At a true difference of exactly -margin, PASS and FAIL are each wrong with
    chance alpha. Bounds are those of `stats.difference` at 2 alpha. ValueError on a margin below
    0 or shapes that do not fit. Source: one-sided confidence bounds (Piaggio et al. 2012, CONSORT).
    """
    if not margin >= 0.0:
        raise ValueError(f"a margin is 0 or more, not {margin}")
    ends = (fixed[0], fixed[1]) if higher_is_better else (fixed[1], fixed[0])
    arms = (new, ref) if higher_is_better else (ref, new)
    found = difference(*arms, alpha=2.0 * alpha, fixed=ends)
    binary = all(np.isin(np.asarray(arm)[np.isfinite(arm)], (0.0, 1.0)).all() for arm in arms)
    return against(found, margin=margin, alpha=alpha, binary=binary)


def against(found: Estimate, *, margin: float, alpha: float, binary: bool) -> NonInferior:
    """Read a difference, estimated at 2 `alpha` and turned so that above 0 is better.

    binary: whether its values were all 0 or 1; only asked where no item differs from another.
    """
    if found.value is None or found.low is None or found.high is None or found.parts is None:
        return NonInferior("inconclusive", found.value, None, None, None, None, None, margin, found)
    outcome = _outcome(found.low, found.high, margin)
    shifted = replace(found, value=found.value + margin)  # the margin becomes the 0 to tell apart
    p_fail, p_pass = _sides(shifted, binary=binary)
    advice = needed(shifted, alpha=2.0 * alpha) if outcome == "inconclusive" else None
    return NonInferior(
        outcome, found.value, found.low, found.high, p_fail, p_pass, advice, margin, found
    )


def _outcome(low: float, high: float, margin: float) -> Outcome:
    if low > -margin:
        return "pass"
    return "fail" if high < -margin else "inconclusive"


def _sides(shifted: Estimate, *, binary: bool) -> tuple[float, float]:
    """One-sided p values (for below 0, for above 0) of a difference shifted by the margin."""
    assert shifted.value is not None and shifted.parts is not None
    if shifted.parts.by_seed + shifted.parts.by_item == 0.0 and binary:
        # the alpha at which the exact bound of an unseen kind of item just touches the margin
        likely = max(1e-12, max(0.0, 1.0 - abs(shifted.value)) ** shifted.items)
        return (likely, 1.0) if shifted.value < 0.0 else (1.0, likely)
    two_sided = shifted.p
    assert two_sided is not None
    near, far = two_sided / 2.0, 1.0 - two_sided / 2.0
    return (near, far) if shifted.value < 0.0 else (far, near)


def tost(estimate: Estimate, margin: float) -> float | None:
    """The alpha at which the interval just touches the margin; None where there is no interval.

    Below alpha exactly where the (1 - alpha) interval lies `inside` (-margin, +margin), so that a p
    and an interval never disagree. It is twice the larger of the two one-sided p values (Schuirmann
    1987, who takes a 90% interval for 5%; ours is the stricter one): a claim of equivalence is
    false in at most alpha / 2. 1 where the estimate lies outside. ValueError on a margin of 0 or
    below.
    """
    if not margin > 0.0:
        raise ValueError(f"a margin of equivalence is above 0, not {margin}")
    if estimate.value is None or estimate.parts is None:
        return None
    room = margin - abs(estimate.value)
    if room <= 0.0:
        return 1.0
    if estimate.parts.by_seed + estimate.parts.by_item == 0.0:
        # no item differs: the alpha at which the exact bound of an unseen kind of item touches it
        return min(1.0, 2.0 * max(0.0, 1.0 - room) ** estimate.items)
    return replace(estimate, value=room).p
