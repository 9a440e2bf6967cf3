"""Where the marks of each chart stand: report numbers to positions in percent; no drawing here.

Positions run from 0 to 100 across a plot, so that the page needs no fixed width; the template
draws them as SVG.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.report import formatting

_PAD = 0.06  # of the span, left free on both sides
_TICKS = 5
_ROOM = 50  # characters side by side below a plot on a phone

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Axis:
    """A span of values drawn from 0 to 100."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float | None) -> float | None:
        """Position in percent, None where there is no value; values outside stand at the edge."""
        if value is None:
            return None
        low, high, value = (self._turned(v) for v in (self.low, self.high, value))
        # Halves, because the distance of two finite floats may overflow.
        share = (value / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.5
        return round(100 * min(1.0, max(0.0, share)), 2)

    def _turned(self, value: float) -> float:
        return math.log(value) if self.log else value

    def ticks(self, *, plus: bool = False) -> list[dict[str, Any]]:
        """Round values inside the span with their positions and labels."""
        values = _decades(self.low, self.high) if self.log else _round(self.low, self.high)
        shown = formatting.power if self.log else _label(values, plus=plus)
        ticks = [{"x": self.at(value), "label": shown(value)} for value in values]
        return ticks[:: _every([shown(value) for value in values])]


def axis(values: Sequence[float | None]) -> Axis:
    """An axis with room around all the values there are; 0 to 1 where there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return Axis(0.0, 1.0)
    low, high = min(known), max(known)
    pad = (high - low) * _PAD or abs(low) * _PAD or 0.5
    return Axis(low - pad, high + pad)


def _every(labels: Sequence[str]) -> int:
    """Which of the labels to show, so that those of a phone's width do not run together."""
    longest = max((len(label) for label in labels), default=0)
    return max(1, math.ceil(len(labels) * (longest + 2) / _ROOM))


def _step(low: float, high: float) -> float:
    """The round step (1, 2 or 5 times a power of ten) that comes nearest to five ticks."""
    rough = (high / _TICKS) - (low / _TICKS)
    power = 10.0 ** math.floor(math.log10(rough))
    return power * min((1, 2, 5, 10), key=lambda nice: abs(math.log(power * nice / rough)))


def _round(low: float, high: float) -> list[float]:
    if not high > low or not math.isfinite(high / 2 - low / 2):
        return [low]
    step = _step(low, high)
    first, last = math.ceil(low / step), math.floor(high / step)
    # Multiplying whole numbers keeps 0.3 from becoming 0.30000000000000004.
    digits = max(0, 1 - math.floor(math.log10(step)))
    return [round(at * step, digits) for at in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten in the span, thinned to a handful."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    every = max(1, (last - first) // _TICKS + 1)
    return [10.0**power for power in range(first, last + 1, every)]


def arms(report: Record) -> dict[str, Any]:
    """One line per arm: mean, interval, a small dot per seed; the untouched model as reference."""
    known = [arm for arm in report["arms"] if arm["mean"] is not None]
    # With a curve, dozens of arms at other budgets would bury the dozen that are compared.
    shown = [arm for arm in known if "curve" not in report or "@" not in arm["name"]] or known
    numbers = [arm[key] for arm in shown for key in ("mean", "low", "high")]
    points = [value for arm in shown for value in arm["seed_means"]]
    span = axis([*numbers, *points])
    base = next((arm["mean"] for arm in shown if arm["name"] == "base"), None)
    return {
        "ticks": span.ticks(),
        "base": span.at(base),
        "elsewhere": len(known) - len(shown),
        "lines": [{**_line(arm, span), "arm": arm} for arm in shown],
    }


def _line(arm: Record, span: Axis) -> dict[str, Any]:
    return {
        "mean": span.at(arm["mean"]),
        "low": span.at(arm["low"]),
        "high": span.at(arm["high"]),
        "points": [span.at(value) for value in arm["seed_means"]],
    }


def differences(report: Record) -> dict[str, Any]:
    """The verdict and every comparison on one axis around zero, the margin as a band."""
    verdict = report["verdict"]
    rows = [verdict, *report["comparisons"]]
    numbers = [row[key] for row in rows for key in ("difference", "low", "high")]
    margin = verdict["margin"]
    band = [] if margin is None else [-margin, margin]
    span = axis([0.0, *band, *numbers])
    return {
        "ticks": span.ticks(plus=True),
        "zero": span.at(0.0),
        "band": [span.at(edge) for edge in band],
        "verdict": _difference(verdict, span),
        "rows": [_difference(row, span) for row in report["comparisons"]],
    }


def _difference(row: Record, span: Axis) -> dict[str, Any]:
    return {key: span.at(row[key]) for key in ("difference", "low", "high")}


def _label(values: Sequence[float], *, plus: bool) -> Callable[[float], str]:
    """Labels with just the decimals that the step between ticks needs."""
    step = values[1] - values[0] if len(values) > 1 else 0.0
    if not 1e-6 < step < 1e6:
        return formatting.measure
    digits = max(0, -math.floor(math.log10(step) + 1e-9))

    def label(value: float) -> str:
        if plus and value:
            return formatting.signed(value, digits)
        return formatting.decimal(value, digits) if digits else formatting.whole(value)

    return label


def histogram(record: Record) -> dict[str, Any]:
    """Bars per group as shares of that group, all groups to one height."""
    edges = record["edges"]
    if not edges:
        return {"groups": [], "ticks": []}
    span = Axis(edges[0], edges[-1], record["scale"] == "log")
    shares = [[count / max(1, g["rows"]) for count in g["counts"]] for g in record["groups"]]
    tallest = max((value for group in shares for value in group), default=0) or 1
    width = 100 / (len(edges) - 1)
    return {
        "ticks": span.ticks(),
        "groups": [
            {
                **group,
                "at": span.at(group["median"]),
                "bars": [
                    {"x": round(at * width, 3), "width": round(width, 3), "height": value / tallest}
                    for at, value in enumerate(values)
                    if value
                ],
            }
            for group, values in zip(record["groups"], shares, strict=True)
        ],
    }
