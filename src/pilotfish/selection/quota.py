"""Quotas as typed ("source", "topic:balanced"), and how many rows each group may keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from pilotfish.errors import UsageError, unknown_name
from pilotfish.records import Ints

PROPORTIONAL, BALANCED = "proportional", "balanced"
_HINT = "write COLUMN, COLUMN:balanced, or weights as in COLUMN:web=1,books=3"


@dataclass(frozen=True)
class Quota:
    """How a budget of rows is shared among groups.

    Attributes:
        column: The column whose values are the groups.
        shares: `proportional` to the rows of the pool, `balanced` (equal), or `weights`.
        weights: Group -> weight, if `shares` is `weights`; groups without a weight get no rows.
    """

    column: str
    shares: str = PROPORTIONAL
    weights: Mapping[str, Fraction] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Canonical spelling; `parse_quota(q.text) == q`."""
        if self.weights:
            named = sorted(self.weights.items())
            return f"{self.column}:" + ",".join(f"{name}={weight}" for name, weight in named)
        return self.column + ("" if self.shares == PROPORTIONAL else f":{self.shares}")

    def of(self, names: Sequence[str], sizes: Ints) -> list[Fraction]:
        """Return [g] the weight of each group.

        Args:
            names: [g] the groups of the pool.
            sizes: [g] their rows in the pool.

        Raises:
            UsageError: A weight is for a group that the pool does not have.
        """
        if not self.weights:
            flat = self.shares == BALANCED
            return [Fraction(1 if flat else int(size)) for size in sizes]
        for name in self.weights:
            if name not in names:
                raise unknown_name(f"group of '{self.column}'", name, names)
        return [self.weights.get(name, Fraction(0)) for name in names]


def parse_quota(text: str) -> Quota:
    """Parse a quota. Raises UsageError (exit 2) for an invalid one."""
    column, colon, shares = text.strip().partition(":")
    if not column or (colon and not shares):
        raise UsageError(f"cannot read the quota '{text}'", hint=_HINT)
    if "=" in shares:
        return Quota(column, "weights", dict(_weight(text, part) for part in shares.split(",")))
    if shares not in ("", PROPORTIONAL, BALANCED):
        raise UsageError(
            f"'{shares}' in the quota '{text}' is not 'balanced', 'proportional' or weights",
            hint=_HINT,
        )
    return Quota(column, shares or PROPORTIONAL)


def _weight(text: str, part: str) -> tuple[str, Fraction]:
    name, _, value = part.rpartition("=")
    try:
        weight = Fraction(value)
    except (ValueError, ZeroDivisionError):
        weight = Fraction(0)
    if not name or weight <= 0:
        raise UsageError(f"'{part}' in the quota '{text}' is not a weight above zero", hint=_HINT)
    return name, weight


def apportion(weights: Sequence[Fraction], room: Ints, count: int) -> Ints:
    """Share rows among groups by weight (water-filling).

    A group with too few rows frees its share for the others, in proportion to their weights. Whole
    rows go by largest remainder (Hamilton), equal remainders to the earlier group.

    Args:
        weights: [g] the weight of each group.
        room: [g] the rows that each group has.
        count: How many rows to share; if the groups have fewer, all of them are given.

    Returns:
        [g] rows for each group.
    """
    given = np.zeros(len(room), dtype=np.int64)
    open_ = [g for g, weight in enumerate(weights) if weight > 0 and room[g] > 0]
    while open_:
        left = min(count - int(given.sum()), int(room[open_].sum()))
        total = sum(weights[g] for g in open_)
        ideal = {g: left * weights[g] / total for g in open_}
        full = [g for g in open_ if ideal[g] >= room[g]]
        if not full:
            floors = {g: int(share) for g, share in ideal.items()}
            given[list(floors)] = list(floors.values())
            by_remainder = sorted(ideal, key=lambda g: (floors[g] - ideal[g], g))
            given[by_remainder[: left - sum(floors.values())]] += 1
            return given
        given[full] = room[full]
        open_ = [g for g in open_ if g not in set(full)]
    return given
