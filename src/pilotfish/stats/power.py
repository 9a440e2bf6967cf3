"""How many seeds, or how many items, would decide an undecided comparison."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from pilotfish.stats.distributions import chi2_quantile
from pilotfish.stats.interval import Estimate, Parts

_MOST_SEEDS = 1_000
_MOST_ITEMS = 10_000_000  # beyond these, "more" is no advice


class _Caution(NamedTuple):
    """How strongly to shrink a difference, and the quantile that bounds the seeds' variance."""

    luck: float
    small: float


# Found by simulation (benchmarks/aa_calibration.py): with these, following the advice decides more
# often than not. More items keep the luck of the seeds, so there the difference shrinks more.
_SEEDS, _ITEMS = _Caution(1.0, 0.05), _Caution(3.0, 0.30)


class Needed(NamedTuple):
    """Seeds per arm, or items, with which the interval would decide; None where no number would."""

    seeds: int | None
    items: int | None


def needed(estimate: Estimate, *, margin: float | None = None, alpha: float = 0.05) -> Needed:
    """Estimate the seeds per arm (same items) or the items (same seeds) that would decide.

    The interval decides once it excludes 0 or, with a margin, lies inside (-margin, +margin),
    whichever comes first. A number given is right in more than half of the cases. A plain
    extrapolation would be too optimistic for two reasons, so it is corrected:

        keep  = max(0, 1 - c * luck / value^2)  luck: squared standard error that more would change
        value = value * (keep + (1 - keep) * now / then)
        seed  = seed * df / chi2(q; df)
        c, q  = 1, .05 for seeds; 3, .3 for items (c = 1 where no arm has seeds)

    First, an undecided difference is partly luck, which new seeds or items will not repeat: it is
    shrunk (James and Stein 1961), except for the data at hand. Second, a variance from few seeds
    may be small by luck: an upper bound of it is used.

    Args:
        estimate: The undecided difference.
        margin: Margin of equivalence, in units of the metric; None tests against 0 only.
        alpha: The interval has confidence 1 - alpha.

    Returns:
        Seeds and items; None where no number can be given. More seeds do not reduce the item part,
        more items do not reduce the pure seed part, and a difference within its own standard error
        does not predict what it will become.
    """
    parts, value = estimate.parts, estimate.value
    if parts is None or value is None:
        return Needed(None, None)
    size, room = abs(value), (margin or 0.0) - abs(value)
    if parts.half_width(alpha) == 0.0:
        return Needed(None, _items_without_spread(max(size, room), alpha))
    by_noise = min(parts.noise / parts.n, parts.seed) * parts.reps
    of_seeds = _keep(size, _SEEDS.luck * (parts.by_seed + parts.by_item))
    of_items = _keep(size, (_ITEMS if parts.trained else _SEEDS).luck * (parts.by_item + by_noise))
    seeds_wide, items_wide = _cautious(parts, _SEEDS.small), _cautious(parts, _ITEMS.small)
    now = max(estimate.seeds)

    def seeds_decide(s: int) -> bool:
        likely = size * (of_seeds + (1.0 - of_seeds) * now / s)
        return _with_seeds(seeds_wide, s).half_width(alpha) < max(likely, room)

    def items_decide(n: int) -> bool:
        likely = size * (of_items + (1.0 - of_items) * parts.n / n)
        return _with_items(items_wide, n).half_width(alpha) < max(likely, room)

    seeds = _first(seeds_decide, max(2, now), _MOST_SEEDS) if parts.trained else None
    return Needed(seeds, _first(items_decide, parts.n, _MOST_ITEMS))


def _keep(size: float, luck: float) -> float:
    """Return the share of a difference that is likely to persist, in [0, 1]."""
    return max(0.0, 1.0 - luck / size**2) if size else 0.0


def _cautious(parts: Parts, small: float) -> Parts:
    """Return the parts with the seeds' variance at an upper bound for their number."""
    if not parts.df_seed:
        return parts
    return replace(parts, seed=parts.seed * parts.df_seed / chi2_quantile(small, parts.df_seed))


def _items_without_spread(target: float, alpha: float) -> int | None:
    """Return the items n whose exact bound, 1 - (alpha / 2)^(1 / n), is below `target`."""
    if not 0.0 < target < 1.0:
        return None
    n = math.floor(math.log(alpha / 2.0) / math.log1p(-target)) + 1
    return n if n <= _MOST_ITEMS else None


def _with_seeds(parts: Parts, s: int) -> Parts:
    """Return the same variances with `s` seeds in each arm that has seeds."""
    arms = parts.trained
    return replace(parts, reps=arms / s, df_seed=arms * (s - 1))


def _with_items(parts: Parts, n: int) -> Parts:
    """Return the same variances with `n` items: of a seed's variance only noise / n shrinks."""
    pure = max(0.0, parts.seed - parts.noise / parts.n)
    return replace(parts, seed=pure + parts.noise / n, n=n)


def _first(decides: Callable[[int], bool], low: int, high: int) -> int | None:
    """Return the smallest count in [low, high] that decides; None where the largest does not."""
    if not decides(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle + 1, high)
    return low
