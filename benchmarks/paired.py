"""Contenders timed in turns inside one process, and the spread of their ratios.

A machine's speed drifts by more than what is compared; two runs next to each other share the drift.
"""

import gc
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Protocol


class Contender(Protocol):
    """One way to get the same numbers."""

    def prepare(self) -> None:
        """What is not timed: forgetting what the last run left."""

    def run(self) -> None:
        """What is."""


@dataclass(frozen=True)
class Spread:
    """Median and extremes of n repeats."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Raises ValueError where there is no value."""
        if not values:
            raise ValueError("no repeats, no spread")
        return cls(median(values), min(values), max(values), len(values))

    def as_dict(self) -> dict[str, float | int]:
        """For JSON, to four digits."""
        return {name: float(f"{value:.4g}") for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Times:
    """Seconds of one contender: its first run, and those of every round after it."""

    first: float
    rounds: tuple[float, ...]

    @property
    def start_up(self) -> float:
        """Seconds the first run took longer: compiling, probing, warming up."""
        return max(self.first - median(self.rounds), 0.0)


def race(
    contenders: Mapping[str, Contender],
    repeats: int,
    *,
    seldom: Collection[str] = (),
    seldom_repeats: int = 2,
) -> dict[str, Times]:
    """Every contender once to warm up, then `repeats` rounds of all, each round begun by another.

    Round i of one contender ran next to round i of the others: their ratio is fair. Those named
    `seldom` join the first rounds only, so that slow ones do not take most of the time.
    """
    first = {name: seconds(contender) for name, contender in contenders.items()}
    rounds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats):
        names = [name for name in contenders if turn < seldom_repeats or name not in seldom]
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            rounds[name].append(seconds(contenders[name]))
    return {name: Times(first[name], tuple(rounds[name])) for name in contenders}


def seconds(contender: Contender) -> float:
    """Wall clock of one run."""
    contender.prepare()
    gc.collect()
    begin = time.perf_counter()
    contender.run()
    return time.perf_counter() - begin


def speedup(base: Times, other: Times) -> Spread:
    """How many times as fast as `base` the other is, in the rounds that both took part in."""
    pairs = zip(base.rounds, other.rounds, strict=False)
    return Spread.of([one / another for one, another in pairs])
