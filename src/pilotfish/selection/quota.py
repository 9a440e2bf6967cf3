"""A quota as typed ("source", "topic:balanced"), and how many rows it gives to each group."""

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
    """Which column groups the rows, and in what shares a budget of rows goes to the groups.

    shares: `proportional` to the rows of the pool, `balanced` (as many of each), or the `weights`
    of named groups, the others getting nothing.
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
        """[g] the weight of each group, given its rows in the pool; UsageError for another name."""
        if not self.weights:
            flat = self.shares == BALANCED
            return [Fraction(1 if flat else int(size)) for size in sizes]
        for name in self.weights:
            if name not in names:
                raise unknown_name(f"group of '{self.column}'", name, names)
        return [self.weights.get(name, Fraction(0)) for name in names]


def parse_quota(text: str) -> Quota:
    """Read a quota. UsageError (exit 2) says what was wrong and how to write it."""
    column, colon, shares = text.strip().partition(":")
    if not column or (colon and not shares):
        raise UsageError(f"cannot read the quota '{text}'", hint=_HINT)
    if "=" in shares:
        return Quota(column, "weights", dict(_weight(text, part) for part in shares.split(",")))
    if shares not in ("", PROPORTIONAL, BALANCED):
        raise UsageError(f"'{shares}' in the quota '{text}' is no way to share", hint=_HINT)
    return Quota(column, shares or PROPORTIONAL)


def _weight(text: str, part: str) -> tuple[str, Fraction]:
    name, _, said = part.rpartition("=")
    try:
        weight = Fraction(said)
    except (ValueError, ZeroDivisionError):
        weight = Fraction(0)
    if not name or weight <= 0:
        raise UsageError(f"'{part}' in the quota '{text}' is no weight above zero", hint=_HINT)
    return name, weight


def apportion(weights: Sequence[Fraction], room: Ints, count: int) -> Ints:
    """[g] rows for each group: `count` in the shares of `weights` [g], none over its `room` [g].

    A group that runs dry frees its share for the others, in their shares (water-filling). Whole
    rows go by largest remainder, equal ones to the earlier group. Gives all room there is where
    that is less than `count`.
    """
    given = np.zeros(len(room), dtype=np.int64)
    open_ = [g for g, weight in enumerate(weights) if weight > 0 and room[g] > 0]
    while open_:
        left = min(count - int(given.sum()), int(room[open_].sum()))
        total = sum(weights[g] for g in open_)
        ideal = {g: left * weights[g] / total for g in open_}
        full = [g for g in open_ if ideal[g] >= room[g]]
        if not full:
            return _rounded(given, ideal, left)
        given[full] = room[full]
        open_ = [g for g in open_ if g not in set(full)]
    return given


def _rounded(given: Ints, ideal: Mapping[int, Fraction], left: int) -> Ints:
    """Largest remainder (Hamilton): floors first, then a row each by falling remainder."""
    floors = {g: int(share) for g, share in ideal.items()}
    for g, floor in floors.items():
        given[g] = floor
    by_rest = sorted(ideal, key=lambda g: (floors[g] - ideal[g], g))
    for g in by_rest[: left - sum(floors.values())]:
        given[g] += 1
    return given
