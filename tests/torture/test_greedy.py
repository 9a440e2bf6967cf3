"""R16: greedy in sixteen parts is worth at least 0.95 of greedy over all rows at once."""

from importlib import import_module
from itertools import product

import numpy as np
import pytest

from pilotfish.diversity import facility_location
from tests.diversity.test_facility_location import clusters, similarity, value
from tests.figures import Reached, size

facility = import_module("pilotfish.diversity.facility_location")  # the function has its name

pytestmark = pytest.mark.torture
PARTS, PROMISE = 16, 0.95
# (rows, rows to pick, clusters, spread): the fixed suite
SUITE = [
    *product((3_000,), (16, 60, 300), (30, 300), (0.3, 1.0)),
    *product((6_000,), (60, 600), (5, 60), (0.1, 0.3, 1.0)),
]


def share(n: int, k: int, c: int, spread: float, seed: int) -> tuple[float, float]:
    """(value in parts, value of as many random rows), both by that of full greedy."""
    vectors, tie = clusters(n, 32, c, spread=spread, seed=seed), np.arange(n)
    alike = similarity(vectors)
    full = value(alike, facility_location(vectors, k, tie, parts=1).order)
    parts = facility_location(vectors, k, tie, parts=PARTS, seed=seed)
    assert len(set(parts.order.tolist())) == k and parts.notes["parts"] == PARTS
    drawn = np.random.default_rng(seed).choice(n, k, replace=False)
    return value(alike, parts.order) / full, value(alike, drawn) / full


def test_sixteen_parts_are_worth_what_all_at_once_are(reached: Reached) -> None:
    cases = [(*each, 0) for each in SUITE[: size(2, len(SUITE))]]
    found = [share(*case) for case in cases]
    parts, drawn = min(each[0] for each in found), min(each[1] for each in found)
    assert parts >= PROMISE
    reached("R16", f"{len(cases)} sets of clusters, {PARTS} parts: at least {parts:.3f} of full "
            f"greedy (random rows: down to {drawn:.3f})")  # fmt: skip


def test_parts_that_pick_their_share_alone_are_worth_less(
    monkeypatch: pytest.MonkeyPatch, reached: Reached
) -> None:
    """What is done where the picks are too many to be merged: outside the promise, measured."""
    monkeypatch.setattr(facility, "_MERGED", 300)
    found = [share(3_000, 200, c, 1.0, 0) for c in (30, 300)[:: size(2, 1)]]
    assert all(parts >= max(0.9, drawn) for parts, drawn in found)
    least = min(parts for parts, _ in found)
    reached("R16", f"not promised: without the second round {least:.3f} of full greedy at least")


def test_one_part_alone_is_found_out(reached: Reached) -> None:
    """Negative control: what the first part picks of its own is not worth as much."""
    vectors, tie = clusters(3_000, 32, 300, spread=0.3, seed=1), np.arange(3_000)
    alike = similarity(vectors)
    full = value(alike, facility_location(vectors, 300, tie, parts=1).order)
    one = facility_location(vectors[: 3_000 // PARTS], 3_000 // PARTS, tie[: 3_000 // PARTS])
    worth = value(alike, one.order) / full
    assert worth < PROMISE
    reached("R16", f"negative control, one part alone: {worth:.3f} of full greedy")
