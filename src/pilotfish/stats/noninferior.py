"""Tests against a margin: non-inferiority (one-sided) and equivalence, over seeds and items."""

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
    """The result of one test; every difference is new - ref, signed so that above 0 is better.

    Attributes:
        outcome: PASS, FAIL or inconclusive.
        difference: None when no item was usable.
        low: One-sided (1 - alpha) lower bound of it; None when no interval can be given (a trained
            arm with one seed), and then the outcome is inconclusive.
        high: One-sided (1 - alpha) upper bound; with `low` a (1 - 2 alpha) interval.
        p_fail: One-sided p value against "not worse by more than the margin": a small one supports
            FAIL. Holm's correction takes this one when several tests are read at once.
        p_pass: Against "worse by the margin or more": a small one supports PASS. The two add up to
            1 wherever items differ.
        needed: Seeds or items that would decide, where an interval is inconclusive.
        margin: The margin, in units of the metric.
        estimate: The two-sided interval of `stats.difference` that the bounds come from.
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
    """Test whether `new` is no worse than `ref` by more than `margin`.

    PASS where low > -margin, FAIL where high < -margin, else inconclusive, which is no pass. At a
    true difference of exactly -margin, PASS and FAIL are each wrong with probability alpha. The
    bounds are those of `stats.difference` at 2 alpha: one-sided confidence bounds (Piaggio et al.
    2012, CONSORT).

    Args:
        new: The new arm [s, n].
        ref: The reference [s', n], on the same items.
        margin: At least 0, in units of the metric.
        higher_is_better: Which way the metric points.
        alpha: Each one-sided bound has confidence 1 - alpha.
        fixed: Whether `new` and `ref` are arms that no seed changes (an untrained base): one row.

    Raises:
        ValueError: The margin is below 0, or the shapes do not fit.
    """
    if not margin >= 0.0:
        raise ValueError(f"a margin is 0 or more, not {margin}")
    ends = (fixed[0], fixed[1]) if higher_is_better else (fixed[1], fixed[0])
    arms = (new, ref) if higher_is_better else (ref, new)
    found = difference(*arms, alpha=2.0 * alpha, fixed=ends)
    binary = all(np.isin(np.asarray(arm)[np.isfinite(arm)], (0.0, 1.0)).all() for arm in arms)
    return against(found, margin=margin, alpha=alpha, binary=binary)


def against(found: Estimate, *, margin: float, alpha: float, binary: bool) -> NonInferior:
    """Test a difference against a margin.

    Args:
        found: The difference, estimated at 2 `alpha`, signed so that above 0 is better.
        margin: At least 0, in units of the metric.
        alpha: Each one-sided bound has confidence 1 - alpha.
        binary: Whether all values were 0 or 1; it matters only where no item differs from another.
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


def tost(estimate: Estimate, margin: float) -> float | None:
    """Return the p value of equivalence: the alpha at which the interval just touches the margin.

    It is below alpha exactly where the (1 - alpha) interval lies `inside` (-margin, +margin), so p
    value and interval never disagree. It is twice the larger of the two one-sided p values
    (Schuirmann 1987 uses a 90% interval for 5%; this is stricter): a claim of equivalence is false
    with probability alpha / 2 at most.

    Args:
        estimate: The difference.
        margin: Above 0, in units of the metric.

    Returns:
        The p value; 1 where the estimate lies outside the margin, None where there is no interval.

    Raises:
        ValueError: The margin is not above 0.
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


def _outcome(low: float, high: float, margin: float) -> Outcome:
    if low > -margin:
        return "pass"
    return "fail" if high < -margin else "inconclusive"


def _sides(shifted: Estimate, *, binary: bool) -> tuple[float, float]:
    """Return the one-sided p values (below 0, above 0) of a difference shifted by the margin."""
    assert shifted.value is not None and shifted.parts is not None
    if shifted.parts.by_seed + shifted.parts.by_item == 0.0 and binary:
        # the alpha at which the exact bound of an unseen kind of item just touches the margin
        likely = max(1e-12, max(0.0, 1.0 - abs(shifted.value)) ** shifted.items)
        return (likely, 1.0) if shifted.value < 0.0 else (1.0, likely)
    two_sided = shifted.p
    assert two_sided is not None
    near, far = two_sided / 2.0, 1.0 - two_sided / 2.0
    return (near, far) if shifted.value < 0.0 else (far, near)
