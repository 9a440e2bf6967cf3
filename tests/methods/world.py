"""A made-up pool as selectors see it: losses of every kind a selector may ask for."""

from dataclasses import replace

import numpy as np

from pilotfish.config import parse_method
from pilotfish.methods import METHODS, Selector, make
from pilotfish.records import Measured, Need, RowFeatures

# One METHOD per row of the table, and the variants whose picking differs.
METHOD_TEXTS = [
    "ifd",
    "ifd(direction=low)",
    "longest",
    "perplexity(direction=high)",
    "perplexity(direction=low)",
    "perplexity(direction=middle,span=full)",
    "random",
    "superfiltering",
    "superfiltering(direction=middle,ceiling=0.9)",
]


def selector_of(text: str, direction: str | None = None) -> Selector:
    return make(parse_method(text), direction)


def all_needs() -> list[Need]:
    made = [selector_of(text) for text in METHOD_TEXTS]
    assert {type(each) for each in made} == set(METHODS.values())
    return list(dict.fromkeys(need for each in made for need in each.needs))


def seen_of(n: int, *, seed: int = 0) -> RowFeatures:
    """n rows with losses on a grid coarse enough to tie; conditional ones a little lower."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"row-{i:05d}" for i in range(n)], dtype=object)
    measured = {}
    for need in all_needs():
        mean = rng.integers(1, 60, n) / 16 * (0.8 if need.given == "prompt" else 1.0)
        count = rng.integers(1, 50, n)
        measured[need] = Measured(mean * count, count, np.full(n, "", dtype=object))
    return RowFeatures(ids, rng.integers(1, 99, n), rng.integers(1, 30, n), measured)


def reordered(seen: RowFeatures, order: np.ndarray) -> RowFeatures:
    """The same pool read in another order."""
    measured = {
        need: Measured(one.total[order], one.count[order], one.reason[order])
        for need, one in seen.measured.items()
    }
    return RowFeatures(
        seen.ids[order], seen.n_prompt_tokens[order], seen.n_response_tokens[order], measured
    )


def planted(seen: RowFeatures, need: Need, row: int, value: float, reason: str = "") -> RowFeatures:
    """The same pool with one measurement of one row replaced."""
    one = seen.measured[need]
    total, why = one.total.copy(), one.reason.copy()
    total[row], why[row] = value, reason
    changed = Measured(total, one.count, why)
    return replace(seen, measured={**seen.measured, need: changed})
