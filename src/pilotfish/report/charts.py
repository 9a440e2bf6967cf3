"""Positions of the marks of each chart: report numbers to percent of the plot's width.

Percentages need no fixed width; the templates draw the marks as SVG.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.report import formatting

CURVE_HEIGHT = 260  # pixels
CURVE_TITLES = {"steps": "Equal steps for every arm", "epochs": "Equal epochs for every arm"}
_REFERENCES = {"base": "without fine-tuning", "full": "all rows"}
_CURVE_STYLES = 5  # lines differ by dashes and marks as well as by colour
_LABEL_GAP = 7.0  # percent of the width that two labels below the axis need
_PAD = 0.06  # of the span, left free on both sides
_TICKS = 5
_CHARACTERS = 50  # side by side below a plot on a phone

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Axis:
    """A range of values, drawn from 0 to 100 percent."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float | None) -> float | None:
        """Return the position in percent; None for None, the edge for values outside."""
        if value is None:
            return None
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        # Halved, because the distance of two finite floats may overflow.
        share = (value / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.5
        return round(100 * min(1.0, max(0.0, share)), 2)

    def ticks(self, *, plus: bool = False) -> list[dict[str, Any]]:
        """Return round values inside the range with their positions and labels."""
        values = _decades(self.low, self.high) if self.log else _round(self.low, self.high)
        shown = formatting.power if self.log else _label(values, plus=plus)
        labels = [shown(value) for value in values]
        # Every n-th, so that the labels fit side by side on a phone.
        longest = max((len(label) for label in labels), default=0)
        every = max(1, math.ceil(len(labels) * (longest + 2) / _CHARACTERS))
        ticks = [{"x": self.at(v), "label": label} for v, label in zip(values, labels, strict=True)]
        return ticks[::every]


def axis(values: Sequence[float | None]) -> Axis:
    """Return an axis with room around all known values; 0 to 1 if there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return Axis(0.0, 1.0)
    low, high = min(known), max(known)
    pad = (high - low) * _PAD or abs(low) * _PAD or 0.5
    return Axis(low - pad, high + pad)


def _round(low: float, high: float) -> list[float]:
    """Return multiples in the range of the round step (1, 2, 5 x 10^k) nearest to five ticks."""
    if not high > low or not math.isfinite(high / 2 - low / 2):
        return [low]
    rough = (high / _TICKS) - (low / _TICKS)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda nice: abs(math.log(power * nice / rough)))
    first, last = math.ceil(low / step), math.floor(high / step)
    # Multiplying whole numbers keeps 0.3 from becoming 0.30000000000000004.
    digits = max(0, 1 - math.floor(math.log10(step)))
    return [round(at * step, digits) for at in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return powers of ten in the range, at most about five."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    every = max(1, (last - first) // _TICKS + 1)
    return [10.0**power for power in range(first, last + 1, every)]


def arms(report: Record) -> dict[str, Any]:
    """Place one line per arm: mean, interval, a dot per seed; the base model as reference."""
    known = [arm for arm in report["arms"] if arm["mean"] is not None]
    # With a curve there may be dozens of arms at other budgets, which the curve shows.
    shown = [arm for arm in known if "curve" not in report or "@" not in arm["name"]] or known
    numbers = [arm[key] for arm in shown for key in ("mean", "low", "high")]
    points = [value for arm in shown for value in arm["seed_means"]]
    span = axis([*numbers, *points])
    base = next((arm["mean"] for arm in shown if arm["name"] == "base"), None)
    return {
        "ticks": span.ticks(),
        "base": span.at(base),
        "elsewhere": len(known) - len(shown),
        "lines": [
            {
                "arm": arm,
                **{key: span.at(arm[key]) for key in ("mean", "low", "high")},
                "points": [span.at(value) for value in arm["seed_means"]],
            }
            for arm in shown
        ],
    }


def differences(report: Record) -> dict[str, Any]:
    """Place the verdict and all comparisons on one axis around 0, with the margin as a band."""
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
    """Return a formatter with as many decimals as the step between ticks needs."""
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
    """Place bars per group as shares of that group, with one height for all groups."""
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


def curves(report: Record) -> list[dict[str, Any]]:
    """Place the data-efficiency curve: one chart at equal steps, one at equal epochs.

    A chart without a series is left out; [] without a curve.
    """
    found = report.get("curve")
    if not found:
        return []
    return [
        _curve(found, title, chosen)
        for equal, title in CURVE_TITLES.items()
        if (chosen := [one for one in found["series"] if one["equal"] == equal])
    ]


def _curve(found: Record, title: str, series: Sequence[Record]) -> dict[str, Any]:
    points = [point for one in series for point in one["points"]]
    references = [found[name] for name in ("floor", "full") if found[name]]
    rows = sorted({point["rows"] for point in points if point["rows"]})
    wide = Axis(rows[0] / 1.25, rows[-1] * 1.25, log=True) if rows else Axis(0.8, 12.5, log=True)
    tall = axis([one[key] for one in [*points, *references] for key in ("mean", "low", "high")])
    labels: list[dict[str, Any]] = []  # without those that would overlap their neighbour
    for count in rows:
        at = wide.at(count)
        if at is not None and (not labels or at - labels[-1]["x"] >= _LABEL_GAP):
            labels.append({"x": at, "label": formatting.whole(count)})
    spoken = []
    for one in series:
        ends = [
            f"{formatting.decimal(point['mean'])} with {formatting.whole(point['rows'])} rows"
            for point in (one["points"][0], one["points"][-1])
        ]
        spoken.append(f"{one['name']}: {' and '.join(ends)}")
    return {
        "title": title,
        "rows": labels,
        "ticks": [{**tick, "y": _down(tick["x"])} for tick in tall.ticks()],
        "lines": [
            {
                "name": _REFERENCES.get(line["arm"], line["arm"]),
                "mean": line["mean"],
                "y": _down(tall.at(line["mean"])),
            }
            for line in references
        ],
        "series": [_series(one, at, wide, tall) for at, one in enumerate(series)],
        "spoken": "; ".join(spoken),
    }


def _series(one: Record, at: int, wide: Axis, tall: Axis) -> dict[str, Any]:
    """Place line and band in a box of 100 x 100 that is stretched, marks in percent and pixels."""
    known = [p for p in one["points"] if p["rows"] and p["mean"] is not None]
    marks = [(wide.at(p["rows"]), tall.at(p["mean"])) for p in known]
    banded = [p for p in known if p["low"] is not None and p["high"] is not None]
    edges = [(wide.at(p["rows"]), tall.at(p["high"])) for p in banded]
    edges += [(wide.at(p["rows"]), tall.at(p["low"])) for p in reversed(banded)]
    return {
        "name": one["name"],
        "style": min(at, _CURVE_STYLES - 1),
        "line": _path(marks),
        "band": _path(edges) if len(banded) > 1 else "",
        "marks": [{"x": x, "y": _down(y)} for x, y in marks],
    }


def _down(share: float | None) -> float | None:
    """Convert percent upwards to pixels from the top of the curve."""
    return None if share is None else round(CURVE_HEIGHT * (1 - share / 100), 1)


def _path(points: Sequence[tuple[float | None, float | None]]) -> str:
    return " ".join(f"{x:g},{round(100 - (y or 0.0), 2):g}" for x, y in points)
