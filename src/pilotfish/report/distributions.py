"""How numbers lie in kept, dropped and random rows: histograms, rank correlation, source shares."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.records import Floats

Mask = NDArray[np.bool_]

BARS = 40
_MOST = float(np.finfo(np.float64).max)
_TAIL = 0.005  # share of rows per side that may be drawn in the outermost bar


def histogram(values: Floats, groups: Mapping[str, Mask], *, whole: bool = False) -> dict[str, Any]:
    """Counts per group on shared edges; finite whatever the values [n] are.

    whole: the values count something, so that bars hold whole numbers. A long tail is drawn in the
    outermost bar and counted in `below` and `above`; the scale is logarithmic where all values are
    positive and span more than a factor of 100. No finite value gives no bars.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {"edges": [], "scale": "linear", "below": 0, "above": 0, "groups": []}
    low, high = _range(finite)
    scale = "log" if not whole and finite.min() > 0 and high / 100 > low else "linear"
    edges = _whole_edges(low, high) if whole else _edges(low, high, scale)
    return {
        "edges": [float(edge) for edge in edges],
        "scale": scale,
        "below": int((finite < edges[0]).sum()),
        "above": int((finite > edges[-1]).sum()),
        "groups": [_group(name, values[mask], edges) for name, mask in groups.items()],
    }


def _range(finite: Floats) -> tuple[float, float]:
    """What is drawn: everything, unless a few rows would squeeze all others into one bar."""
    least, most = float(finite.min()), float(finite.max())
    low, high = (float(q) for q in np.quantile(finite, [_TAIL, 1 - _TAIL], method="nearest"))
    # Halves, because the distance of two finite floats may overflow.
    if most / 2 - least / 2 <= 1.5 * (high / 2 - low / 2):
        return least, most
    return low, high


def _edges(low: float, high: float, scale: str) -> Floats:
    if low == high:
        pad = abs(low) / 20 or 0.5
        low, high = max(low - pad, -_MOST), min(high + pad, _MOST)
    if scale == "log":
        edges = np.exp(np.linspace(np.log(low), np.log(high), BARS + 1))
    else:
        edges = np.linspace(low / 4, high / 4, BARS + 1) * 4
    edges[0], edges[-1] = low, high
    return edges


def _whole_edges(low: float, high: float) -> Floats:
    width = max(1, int(np.ceil((high - low + 1) / BARS)))
    bars = int(np.ceil((high - low + 1) / width))
    return low - 0.5 + width * np.arange(bars + 1, dtype=np.float64)


def _group(name: str, values: Floats, edges: Floats) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    inside = np.clip(finite, edges[0], edges[-1])
    return {
        "name": name,
        "rows": len(finite),
        "counts": [int(count) for count in np.histogram(inside, bins=edges)[0]],
        "median": _median(finite),
    }


def _median(values: Floats) -> float | None:
    """The middle value; halved before adding, because two finite floats may sum to infinity."""
    if not len(values):
        return None
    ranked, middle = np.sort(values), len(values) // 2
    return float(ranked[(len(values) - 1) // 2] / 2 + ranked[middle] / 2)


def rank_correlation(first: Floats, second: Floats) -> float | None:
    """Spearman's correlation over rows where both are finite; None where it is undefined."""
    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 3:
        return None
    one, two = _ranks(first[both]), _ranks(second[both])
    one, two = one - one.mean(), two - two.mean()
    size = np.sqrt((one @ one) * (two @ two))
    return float(one @ two / size) if size > 0 else None


def _ranks(values: Floats) -> Floats:
    """[n] ranks, equal values sharing the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[place], dtype=np.float64)


def drift(sources: NDArray[np.object_], kept: Mask) -> list[dict[str, Any]]:
    """Per source its rows and shares in pool and selection (shift: one minus the other).

    Largest source first.
    """
    names, place = np.unique(sources.astype(str), return_inverse=True)
    rows = np.bincount(place, minlength=len(names))
    picked = np.bincount(place[kept], minlength=len(names))
    order = sorted(range(len(names)), key=lambda at: (-rows[at], str(names[at])))
    return [
        {
            "source": str(names[at]),
            "rows": int(rows[at]),
            "share": float(rows[at] / len(sources)),
            "kept": int(picked[at]),
            "kept_share": float(picked[at] / max(1, picked.sum())),
            "shift": float(picked[at] / max(1, picked.sum()) - rows[at] / len(sources)),
        }
        for at in order
    ]
