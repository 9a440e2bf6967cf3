"""Made-up comparisons: arms with a given share of right answers, seeds that differ a little."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pilotfish.comparison.data import ComparisonData


def made(
    shares: Mapping[str, float],
    *,
    seeds: int = 3,
    items: int = 400,
    rows: Mapping[str, int] | None = None,
    plan: Mapping[str, Any] | None = None,
    spread: float = 0.01,
) -> ComparisonData:
    """Arms right with the probability of their share, on items all find alike hard."""
    results: dict[str, dict[int, dict[str, float]]] = {}
    for at, (arm, share) in enumerate(shares.items()):
        draw = np.random.default_rng(at)
        count = 1 if arm == "base" else seeds
        results[arm] = {
            seed: dict(zip(_ids(items), _answers(draw, share, items, spread), strict=True))
            for seed in range(count)
        }
    trained = {
        (arm, seed): {"rows": n, "tokens": 10 * n, "steps": 100, "flops": 1e9}
        for arm, n in (rows or {}).items()
        for seed in range(seeds)
    }
    return ComparisonData(results, "accuracy", True, 0.02, trained, plan or {"arms": list(shares)})


def _ids(items: int) -> list[str]:
    return [f"i{n:04}" for n in range(items)]


def _answers(draw: np.random.Generator, share: float, items: int, spread: float) -> list[float]:
    """About that share right: the same number for every seed but for `spread`."""
    right = round(items * min(max(share + spread * draw.standard_normal(), 0), 1))
    answers = np.zeros(items)
    answers[draw.permutation(items)[:right]] = 1.0
    return [float(each) for each in answers]
