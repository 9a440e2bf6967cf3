"""Equivalence as a p value: two one-sided tests against a margin."""

from dataclasses import replace

from pilotfish.stats.interval import Estimate


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
