"""Where the marks of the data-efficiency curve stand: means and bands over rows, on a log axis."""

from collections.abc import Mapping, Sequence
from typing import Any

from pilotfish.report import formatting
from pilotfish.report.charts import Axis, axis

HEIGHT = 260  # pixels of the plot
APART = 7.0  # percent of the width that two labels below the axis need between them
STYLES = 5  # of lines, told apart by dashes and marks as well as by colour

Record = Mapping[str, Any]
_NAMES = {"base": "the model as it came", "full": "all rows"}
TITLES = {"steps": "In as many steps for every arm", "epochs": "In as many epochs for every arm"}


def charts(report: Record) -> list[dict[str, Any]]:
    """One chart at equal steps, one at equal epochs, as far as there are series for them."""
    found = report.get("curve")
    if not found:
        return []
    return [
        _chart(found, equal, chosen)
        for equal in TITLES
        if (chosen := [one for one in found["series"] if one["equal"] == equal])
    ]


def _chart(found: Record, equal: str, series: Sequence[Record]) -> dict[str, Any]:
    points = [point for one in series for point in one["points"]]
    lines = [found[name] for name in ("floor", "full") if found[name]]
    numbers = [each[key] for each in [*points, *lines] for key in ("mean", "low", "high")]
    tall, wide = axis(numbers), _wide([point["rows"] for point in points if point["rows"]])
    return {
        "title": TITLES[equal],
        "rows": _below(points, wide),
        "ticks": [{**tick, "y": _down(tick["x"])} for tick in tall.ticks()],
        "lines": [
            {
                "name": _NAMES.get(line["arm"], line["arm"]),
                "mean": line["mean"],
                "y": _down(tall.at(line["mean"])),
            }
            for line in lines
        ],
        "series": [_series(one, at, wide, tall) for at, one in enumerate(series)],
        "said": "; ".join(_said(one) for one in series),
    }


def _wide(rows: Sequence[int]) -> Axis:
    low, high = (min(rows), max(rows)) if rows else (1, 10)
    return Axis(low / 1.25, high * 1.25, log=True)


def _down(share: float | None) -> float | None:
    """From percent upwards to pixels from the top."""
    return None if share is None else round(HEIGHT * (1 - share / 100), 1)


def _below(points: Sequence[Record], wide: Axis) -> list[dict[str, Any]]:
    """Row counts under the axis, those left out that would run into their neighbour."""
    shown: list[dict[str, Any]] = []
    for rows in sorted({point["rows"] for point in points if point["rows"]}):
        at = wide.at(rows)
        if at is not None and (not shown or at - shown[-1]["x"] >= APART):
            shown.append({"x": at, "label": formatting.whole(rows)})
    return shown


def _series(one: Record, at: int, wide: Axis, tall: Axis) -> dict[str, Any]:
    """Line and band in a box of 100 x 100 that is stretched, marks in percent and pixels."""
    known = [p for p in one["points"] if p["rows"] and p["mean"] is not None]
    places = [(wide.at(p["rows"]), tall.at(p["mean"])) for p in known]
    banded = [p for p in known if p["low"] is not None and p["high"] is not None]
    edges = [(wide.at(p["rows"]), tall.at(p["high"])) for p in banded]
    edges += [(wide.at(p["rows"]), tall.at(p["low"])) for p in reversed(banded)]
    return {
        "name": one["name"],
        "style": min(at, STYLES - 1),
        "line": _path(places),
        "band": _path(edges) if len(banded) > 1 else "",
        "marks": [{"x": x, "y": _down(y)} for x, y in places],
    }


def _path(places: Sequence[tuple[float | None, float | None]]) -> str:
    return " ".join(f"{x:g},{round(100 - (y or 0.0), 2):g}" for x, y in places)


def _said(one: Record) -> str:
    ends = [one["points"][0], one["points"][-1]]
    told = [
        f"{formatting.decimal(p['mean'])} with {formatting.whole(p['rows'])} rows" for p in ends
    ]
    return f"{one['name']}: {' and '.join(told)}"
