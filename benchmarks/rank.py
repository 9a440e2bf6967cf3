"""How far two scorings of the same rows agree."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.scoring.audit import spearman

Floats = NDArray[np.float64]


def agreement(exact: dict[str, Floats], other: dict[str, Floats]) -> dict[str, Any]:
    """Of mean NLLs with `prompt` and given `nothing` [n]: differences, and ranks of the IFD.

    Rows that either cannot score are left out of the figures, and counted where only one cannot.
    """
    pairs = [np.abs(exact[given] - other[given]) for given in ("prompt", "nothing")]
    both = np.isfinite(pairs[0]) & np.isfinite(pairs[1])
    one, two = (np.exp(each["prompt"] - each["nothing"])[both] for each in (exact, other))
    rank = spearman(one, two)
    gaps = np.concatenate([pair[both] for pair in pairs])
    return {
        "rows": int(both.sum()),
        "scored_by_one": int(sum((np.isfinite(exact[g]) != np.isfinite(other[g])).sum()
                                 for g in ("prompt", "nothing"))),
        "max_difference": float(gaps.max(initial=0.0)),
        "rms_difference": float(np.sqrt(np.mean(gaps**2))) if len(gaps) else 0.0,
        "spearman": None if np.isnan(rank) else float(rank),
        "overlap_top_10": overlap(one, two, 0.1),
    }  # fmt: skip


def overlap(one: Floats, two: Floats, share: float) -> float:
    """Share of the highest rows of `one` that are the highest of `two`; ties go by position."""
    k = max(round(share * len(one)), 1)
    top = [set(np.argsort(-values, kind="stable")[:k].tolist()) for values in (one, two)]
    return len(top[0] & top[1]) / k
