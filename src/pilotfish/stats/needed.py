"""How many seeds, or how many items, would decide what is undecided."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from pilotfish.stats.interval import Estimate, Parts

_MOST_SEEDS = 1_000
_MOST_ITEMS = 10_000_000  # beyond these, "more" is no advice


class Needed(NamedTuple):
    """Seeds per arm, or items, with which the interval would decide; None: no number would."""

    seeds: int | None
    items: int | None


def needed(estimate: Estimate, *, margin: float | None = None, alpha: float = 0.05) -> Needed:
    """How many seeds per arm (same items) or items (same seeds) would decide.

    Takes the difference and the variance parts as they are estimated now, and asks when the
    interval would exclude 0 or, with a margin, lie inside (-margin, +margin), whichever is
    nearer. A rough guide: with few seeds the parts themselves are uncertain. More seeds cannot
    average the item part away and more items not the pure seed part, hence None.
    """
    parts, value = estimate.parts, estimate.value
    if parts is None or value is None:
        return Needed(None, None)
    target = max(abs(value), (margin or 0.0) - abs(value))
    if parts.half_width(alpha) == 0.0:
        return Needed(None, _items_without_spread(target, alpha))

    def seeds_decide(s: int) -> bool:
        return _with_seeds(parts, s).half_width(alpha) < target

    def items_decide(n: int) -> bool:
        return _with_items(parts, n).half_width(alpha) < target

    seeds = _first(seeds_decide, max(2, *estimate.seeds), _MOST_SEEDS) if parts.trained else None
    return Needed(seeds, _first(items_decide, parts.n, _MOST_ITEMS))


def _items_without_spread(target: float, alpha: float) -> int | None:
    """Items whose exact bound, 1 - (alpha / 2)^(1 / n), is below `target`."""
    if not 0.0 < target < 1.0:
        return None
    n = math.floor(math.log(alpha / 2.0) / math.log1p(-target)) + 1
    return n if n <= _MOST_ITEMS else None


def _with_seeds(parts: Parts, s: int) -> Parts:
    """The same variances with `s` seeds in each arm that has seeds."""
    arms = parts.trained
    return replace(parts, reps=arms / s, df_seed=arms * (s - 1))


def _with_items(parts: Parts, n: int) -> Parts:
    """The same variances with `n` items: of a seed's variance only noise / n shrinks."""
    pure = max(0.0, parts.seed - parts.noise / parts.n)
    return replace(parts, seed=pure + parts.noise / n, n=n)


def _first(decides: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest count in [low, high] that decides, None where even the largest does not."""
    if not decides(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle + 1, high)
    return low
