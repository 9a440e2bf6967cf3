"""How often do 95% intervals of PGR hold the true one? Simulated experiments with a known truth.

    python -m benchmarks.pgr_coverage            # 2,000 experiments a row, ten minutes of one core

Shares of 0/1 items: the weak model is right on .65, the ceiling on .90 (.72 in the rows of a small
gap), the student at a PGR of .2, .5 or .8. Items are shared, seeds have a spread of their own.
The bootstrap, which is slow, is asked in the first 300 experiments of each row.
Writes JSON, of which `python -m benchmarks.tables` makes a table.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np

from benchmarks.machine import parser, write
from benchmarks.triples import triple
from pilotfish.stats import PGR, pgr

EXPERIMENTS, QUICK = 2_000, 100
BOOTSTRAPPED, DRAWS = 300, 400
TRUTHS = (0.2, 0.5, 0.8)


@dataclass(frozen=True)
class Setting:
    """What is drawn: spread of the seeds' true means (weak, student, ceiling), and the rest."""

    seeds: int
    items: int
    spread: tuple[float, float, float]
    top: float = 0.90
    tied: float = 0.0


@dataclass
class Row:
    """Shares of the experiments: with a PGR at all, and with the truth inside its interval."""

    setting: Setting
    defined: float
    fieller: float | None
    bootstrap: float | None
    width: float | None
    bootstrap_width: float | None


def settings() -> Iterator[Setting]:
    """Equal spreads first, then unequal ones, seeds that go together, and a small gap."""
    for seeds in (2, 3, 5):
        for items in (300, 1000):
            for spread in (0.005, 0.015, 0.03):
                yield Setting(seeds, items, (spread,) * 3)
    for seeds in (2, 3, 5):
        for unequal in ((0.005, 0.02, 0.005), (0.02, 0.005, 0.005), (0.005, 0.015, 0.03)):
            yield Setting(seeds, 1000, unequal)
        yield Setting(seeds, 1000, (0.015,) * 3, tied=0.6)
        yield Setting(seeds, 1000, (0.015,) * 3, top=0.72)


def row(setting: Setting, count: int, seed: int) -> Row:
    """Draw and measure one setting; the same whatever else is measured."""
    rng = np.random.default_rng(seed)
    found: list[tuple[float, PGR]] = []
    for at in range(count):
        truth = float(rng.choice(TRUTHS))
        arms = triple(rng, pgr=truth, **asdict(setting))
        found.append((truth, pgr(*arms, draws=DRAWS if at < BOOTSTRAPPED else 0, seed=seed)))
    told = [(truth, one) for truth, one in found if one.defined]
    return Row(
        setting,
        len(told) / count,
        _share([_inside(truth, one.low, one.high) for truth, one in told]),
        _share([_inside(truth, one.boot_low, one.boot_high) for truth, one in told]),
        _middle([_width(one.low, one.high) for _, one in told]),
        _middle([_width(one.boot_low, one.boot_high) for _, one in told]),
    )


def _inside(truth: float, low: float | None, high: float | None) -> bool | None:
    return None if low is None or high is None else low <= truth <= high


def _width(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else high - low


def _share(hits: list[bool | None]) -> float | None:
    known = [hit for hit in hits if hit is not None]
    return sum(known) / len(known) if known else None


def _middle(widths: list[float | None]) -> float | None:
    known = [width for width in widths if width is not None]
    return median(known) if known else None


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    count = QUICK if options.quick else EXPERIMENTS
    rows = [row(setting, count, options.seed) for setting in settings()]
    write(
        "pgr_coverage",
        options,
        {
            "experiments": count,
            "bootstrapped": BOOTSTRAPPED,
            "draws": DRAWS,
            "rows": [asdict(each) for each in rows],
        },
    )


if __name__ == "__main__":
    main()
