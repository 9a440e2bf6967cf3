"""Inside one seed pair: the items that only one of its two models gets right, by exact McNemar."""

import math
from typing import Any

from pilotfish.judge.files import Results
from pilotfish.stats import mcnemar


def seed_pairs(results: Results, arm: str, against: str) -> list[dict[str, Any]]:
    """The `seed_pairs` of the verdict: {seed, only_selected, only_random, p} per shared seed.

    only_selected: items right in `arm` alone (the selection, or what a user named), only_random:
    right in `against` alone. p is exact for these two models and says nothing of others: it knows
    no spread over seeds, so no verdict rests on it. [] for values other than 0 and 1; items that
    either model could not be judged on are left out.
    """
    pairs = []
    for seed in sorted({*results.get(arm, {})} & {*results.get(against, {})}):
        ours, theirs = results[arm][seed], results[against][seed]
        both = [(ours[item], theirs[item]) for item in ours if item in theirs]
        values = [pair for pair in both if not any(map(math.isnan, pair))]
        if any(value not in (0.0, 1.0) for pair in values for value in pair):
            return []
        won, lost = values.count((1.0, 0.0)), values.count((0.0, 1.0))
        pairs.append(
            {"seed": seed, "only_selected": won, "only_random": lost, "p": mcnemar(won, lost)}
        )
    return pairs
