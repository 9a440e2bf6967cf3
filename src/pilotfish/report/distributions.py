"""Distributions over kept, dropped and random rows: histograms, rank correlation, sources."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.records import Floats, Texts
from pilotfish.scoring.audit import spearman

Mask = NDArray[np.bool_]

BARS = 40
_MOST = float(np.finfo(np.float64).max)
_TAIL = 0.005  # share of rows per side that may be drawn in the outermost bar


def histogram(values: Floats, groups: Mapping[str, Mask], *, whole: bool = False) -> dict[str, Any]:
    """Count values per group in bars with common edges.

    Args:
        values: Values [n]; those that are not finite are left out.
        groups: Name -> mask [n] of its rows.
        whole: Whether the values are counts, so that the edges lie between whole numbers.

    Returns:
        edges, scale, below, above and groups with counts and median. A long tail is counted in the
        outermost bar, and its rows in `below` and `above`. The scale is log where all values are
        positive and span more than a factor of 100. Without a finite value there are no bars.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {"edges": [], "scale": "linear", "below": 0, "above": 0, "groups": []}
    low, high = _shown_range(finite)
    scale = "log" if not whole and finite.min() > 0 and high / 100 > low else "linear"
    edges = _whole_edges(low, high) if whole else _edges(low, high, scale)
    return {
        "edges": [float(edge) for edge in edges],
        "scale": scale,
        "below": int((finite < edges[0]).sum()),
        "above": int((finite > edges[-1]).sum()),
        "groups": [_group(name, values[mask], edges) for name, mask in groups.items()],
    }


def _shown_range(finite: Floats) -> tuple[float, float]:
    """Return the range of all values, without the tails that would squeeze them into one bar."""
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
    """Return the median; halved before adding, because two finite floats may sum to infinity."""
    if not len(values):
        return None
    ranked, middle = np.sort(values), len(values) // 2
    return float(ranked[(len(values) - 1) // 2] / 2 + ranked[middle] / 2)


def rank_correlation(first: Floats, second: Floats) -> float | None:
    """Return Spearman's correlation of two arrays [n], over rows where both are finite.

    None where it is undefined: with fewer than 3 rows, or where one of the two is constant.
    """
    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 3:
        return None
    found = spearman(first[both], second[both])
    return None if np.isnan(found) else found


def source_shares(sources: Texts, kept: Mask) -> list[dict[str, Any]]:
    """Return each source's rows and share in the pool and in the selection, largest first.

    Args:
        sources: Source of each row [n].
        kept: Mask [n] of the selected rows.

    Returns:
        {source, rows, share, kept, kept_share, shift} of each; shift is kept_share - share.
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
