"""How often do intervals of the data-efficiency factor hold the true one? Simulated sweeps.

    python -m benchmarks.efficiency_coverage            # 500 sweeps a line, minutes on one core

Random arms lie on a line in log rows (100 to 800), .06 of accuracy for each doubling; the selected
arm of 100 rows is worth 300 random ones. Items are shared, seeds have a spread of their own.
Writes JSON, of which `python -m benchmarks.tables` makes a table.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.machine import parser, write
from benchmarks.triples import drawn
from pilotfish.stats import Efficiency, efficiency

SWEEPS, QUICK, DRAWS = 500, 40, 300
ROWS = (100, 200, 400, 800)
FACTOR, FIRST, DOUBLING = 3.0, 0.55, 0.06


@dataclass(frozen=True)
class Setting:
    """spread: standard deviation of a seed's true mean."""

    seeds: int
    items: int
    spread: float


def settings() -> Iterator[Setting]:
    for seeds in (2, 3, 5):
        for spread in (0.005, 0.02):
            yield Setting(seeds, 500, spread)


def row(setting: Setting, count: int, seed: int) -> dict[str, float]:
    """Shares of the sweeps; an end that is open holds whatever lies there."""
    rng = np.random.default_rng(seed)
    found = [_sweep(rng, setting) for _ in range(count)]
    return {
        "inversion": _share(found, lambda one: _holds(one.low, one.high)),
        "bootstrap": _share(found, lambda one: _holds(one.boot_low, one.boot_high)),
        "closed": _share(found, lambda one: one.low is not None and one.high is not None),
        "censored": _share(found, lambda one: bool(one.censored)),
    }


def _sweep(rng: np.random.Generator, setting: Setting) -> Efficiency:
    rows = [*ROWS, FACTOR * ROWS[0]]
    means = [FIRST + DOUBLING * math.log2(n / ROWS[0]) for n in rows]
    *random, picked = drawn(rng, means, **asdict(setting))
    return efficiency(ROWS, [picked] * len(ROWS), random, ROWS[0], draws=DRAWS)


def _holds(low: float | None, high: float | None) -> bool:
    return (0.0 if low is None else low) <= FACTOR <= (math.inf if high is None else high)


def _share(found: list[Efficiency], asked: Callable[[Efficiency], bool]) -> float:
    return sum(asked(one) for one in found) / len(found)


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    count = QUICK if options.quick else SWEEPS
    rows = [{**asdict(one), **row(one, count, options.seed)} for one in settings()]
    facts = {"sweeps": count, "draws": DRAWS, "factor": FACTOR, "budgets": list(ROWS)}
    write("efficiency_coverage", options, {**facts, "rows": rows})


if __name__ == "__main__":
    main()
