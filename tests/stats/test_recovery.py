"""The share of the full data's gain recovered: by hand, as PGR, and when it is no number."""

import numpy as np
import pytest

from pilotfish.stats import pgr, recovery


def shares(*means, items=1000, seeds=3):
    """Arms [seeds, items] of 0/1 with exactly these means, differing items per seed."""
    rng = np.random.default_rng(0)
    row = [np.arange(items) < round(mean * items) for mean in means]
    return [np.stack([rng.permutation(one) for _ in range(seeds)]).astype(float) for one in row]


def test_by_hand():
    found = recovery(*shares(0.80, 0.90, 0.50))
    assert found.defined and found.why == ""
    assert found.value == pytest.approx(0.75) and found.gap == pytest.approx(0.40)
    assert found.low < 0.75 < found.high
    assert str(found).startswith("75% [")


def test_it_is_pgr_under_other_names():
    picked, full, floor = shares(0.7, 0.9, 0.6)
    one, other = recovery(picked, full, floor), pgr(floor, picked, full, draws=0)
    assert (one.value, one.low, one.high) == (other.raw, other.low, other.high)


def test_a_loss_has_the_same_share():
    picked, full, floor = shares(0.8, 0.9, 0.5)
    up, down = (
        recovery(picked, full, floor),
        recovery(1 - picked, 1 - full, 1 - floor, higher_is_better=False),
    )
    assert down.value == pytest.approx(up.value) and down.low == pytest.approx(up.low)


def test_an_untrained_floor_has_one_row():
    picked, full, floor = shares(0.8, 0.9, 0.5)
    found = recovery(picked, full, floor[:1], fixed=(False, False, True))
    assert found.defined and found.value == pytest.approx(0.75) and found.seeds == (3, 3, 1)
    lone = recovery(picked, full, floor[:1])
    assert not lone.defined and "one seed" in lone.why and lone.value is None


@pytest.mark.parametrize(
    ("means", "why"),
    [
        ((0.6, 0.5, 0.5), "not above"),
        ((0.6, 0.5, 0.7), "not above"),
        ((0.6, 0.61, 0.60), "covers 0"),
    ],
)
def test_undefined_is_never_a_number(means, why):
    found = recovery(*shares(*means))
    assert not found.defined and why in found.why and "weak" not in found.why
    assert found.value is None and found.low is None and found.high is None
    assert str(found).startswith("undefined: ")


def test_better_than_all_rows_and_worse_than_the_floor():
    assert recovery(*shares(0.95, 0.9, 0.5)).value > 1
    assert recovery(*shares(0.4, 0.9, 0.5)).value < 0
