"""The weak-to-strong section of the report: its sentence, and the positions of its charts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pilotfish.report import formatting
from pilotfish.report.charts import Axis, axis
from pilotfish.store import Run

FILE = "weak_to_strong.json"
CURVE_HEIGHT = 120  # pixels
_FLOOR_TO_CEILING = (0.0, 1.0)
_FARTHEST = 10.0  # PGR beyond which an interval is drawn to the edge, so that others stay legible

Record = Mapping[str, Any]


def weak_to_strong(run: Run) -> dict[str, Any] | None:
    """Read the results of a weak-to-strong experiment; None in any other run."""
    return run.store.read_json(FILE)


def sentence(results: Record) -> str:
    """Write the page's first sentence: how much of the gap the best student recovers."""
    about = "Label mode: the weak model wrote the labels, and no rows were selected."
    defined = [arm for arm in results["arms"] if arm["pgr"]["defined"]]
    if not defined:
        why = next((arm["pgr"]["why"] for arm in results["arms"]), "no arm was trained")
        return f"{about} PGR is undefined: {why}."
    # Arms trained on true labels, or chosen by them, are controls: they close the gap anyway.
    students = [
        arm for arm in defined if arm.get("taught", "weak") == "weak" and not arm.get("oracle")
    ]
    best = max(students or defined, key=lambda arm: (arm["pgr"]["raw"], arm["name"]))
    pgr, weak, ceiling = best["pgr"], results["weak"]["mean"], results["ceiling"]["mean"]
    interval = "no interval"
    if pgr["low"] is not None and pgr["high"] is not None:
        low, high = formatting.decimal(pgr["low"], 2), formatting.decimal(pgr["high"], 2)
        interval = f"95% interval {low} to {high}"
    return (
        f"{about} The arm {best['name']} recovers {formatting.decimal(pgr['raw'], 2)} ({interval}) "
        f"of the gap between the weak model ({formatting.decimal(weak)}) and the ceiling "
        f"({formatting.decimal(ceiling)})."
    )


def charts(report: Record) -> dict[str, Any] | None:
    """Return the positions of all marks; None without a weak-to-strong experiment."""
    results = report.get("weak_to_strong")
    if results is None:
        return None
    curves = [_curve(arm) for arm in results["arms"] if arm["curve"]]
    return {"pgr": _pgr(results["arms"]), "curves": curves}


def _pgr(arms: Sequence[Record]) -> dict[str, Any]:
    """Place all arms on one axis that includes the weak model (0) and the ceiling (1)."""
    numbers = [arm["pgr"][key] for arm in arms for key in ("raw", "low", "high")]
    near = [value for value in numbers if value is not None and abs(value) <= _FARTHEST]
    span = axis([*_FLOOR_TO_CEILING, *near])
    return {
        "ticks": span.ticks(),
        "zero": span.at(0.0),
        "band": [span.at(edge) for edge in _FLOOR_TO_CEILING],
        "lines": [
            {
                "difference": span.at(arm["pgr"]["raw"]),
                "low": span.at(arm["pgr"]["low"]),
                "high": span.at(arm["pgr"]["high"]),
            }
            for arm in arms
        ],
    }


def _curve(arm: Record) -> dict[str, Any]:
    """Place agreement over steps, on rows the weak model gets right and on those it gets wrong."""
    points = sorted(arm["curve"], key=lambda point: point["step"])
    steps = [point["step"] for point in points]
    span = Axis(float(min(steps)), float(max(steps)))
    return {
        "name": arm["name"],
        "ticks": span.ticks(),
        "first": points[0],
        "last": points[-1],
        "right": list(_segments(points, "weak_right", span)),
        "wrong": list(_segments(points, "weak_wrong", span)),
    }


def _segments(points: Sequence[Record], key: str, span: Axis) -> Iterator[dict[str, float | None]]:
    """Yield lines between neighbouring known values, so that a missing value leaves a gap.

    x is in percent, y in pixels from the top; a share of 1 is at the top. A value without a known
    neighbour gives a line of length 0, which the page draws as a dot.
    """
    known = [index for index, point in enumerate(points) if point[key] is not None]
    for index in known:
        joined = index + 1 if index + 1 in known else index
        if joined == index and index - 1 in known:
            continue  # the piece before ends here
        one, two = points[index], points[joined]
        yield {
            "x1": span.at(float(one["step"])),
            "y1": _height(one[key]),
            "x2": span.at(float(two["step"])),
            "y2": _height(two[key]),
        }


def _height(share: float) -> float:
    return round(CURVE_HEIGHT * (1.0 - min(1.0, max(0.0, share))), 1)
