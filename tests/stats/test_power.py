"""How many seeds or items would decide: by hand, and none where there is nothing to go by."""

import numpy as np

from pilotfish.stats import difference, inside, needed, t_quantile
from tests.stats.simulate import arms

A = np.array([[1.0, 2.0, 3.0, 6.0], [2.0, 2.0, 5.0, 7.0]])
B = np.array([[0.0, 2.0, 1.0, 5.0], [1.0, 1.0, 2.0, 4.0]])


def still(right, wrong, level):
    """Two arms that no seed changes: `right` items for the first alone, `wrong` for the other."""
    one = np.array([[1.0] * right + [0.0] * wrong + [1.0] * level])
    other = np.array([[0.0] * right + [1.0] * wrong + [1.0] * level])
    return difference(one, other, fixed=(True, True))


def test_items_by_hand_where_no_seed_varies():
    # half-width t sqrt(item / n) must fall below what is likely to be left of the difference
    found = still(26, 14, 4)
    advice = needed(found)
    assert advice.seeds is None and found.low < 0 < found.high
    keep = 1 - found.parts.item / 44 / found.value**2
    for n, decides in ((advice.items, True), (advice.items - 1, False)):
        half = t_quantile(0.975, n - 1) * (found.parts.item / n) ** 0.5
        assert (half < found.value * (keep + (1 - keep) * 44 / n)) == decides


def test_seeds_by_hand_where_no_item_varies():
    a, b = (np.repeat([[v] for v in row], 10, axis=1) for row in ((0.4, 0.6, 0.8), (0.2, 0.3, 0.4)))
    found = difference(a, b)  # pooled variance (.04 + .01) / 2, value .3
    advice = needed(found)
    assert found.low < 0 < found.high and advice.items is None
    keep = 1 - (0.025 * 2 / 3) / 0.3**2
    variance = 0.025 * 4 / 0.710723  # chi square, 4 degrees, 5% point by the published table
    for s, decides in ((advice.seeds, True), (advice.seeds - 1, False)):
        half = t_quantile(0.975, 2 * s - 2) * (variance * 2 / s) ** 0.5
        assert (half < 0.3 * (keep + (1 - keep) * 3 / s)) == decides


def test_a_difference_within_its_own_error_gives_no_advice():
    assert needed(still(24, 20, 0)) == (None, None)
    assert needed(still(30, 20, 0)).items == needed(still(20, 30, 0)).items is not None


def test_advice_is_more_than_there_is():
    rng, told = np.random.default_rng(3), 0
    for _ in range(30):
        found = difference(*arms(rng, seeds=(3, 3), items=200, spread=0.01, gap=0.06))
        if found.low < 0 < found.high:
            advice = needed(found)
            told += advice.seeds is not None
            assert advice.seeds is None or advice.seeds > 3
            assert advice.items is None or advice.items > 200
    assert told


def test_the_scale_and_the_sign_are_free():
    rng = np.random.default_rng(8)
    a, b = arms(rng, seeds=(4, 4), items=200, spread=0.02, gap=0.06)
    assert needed(difference(a, b)) == needed(difference(b, a))
    assert needed(difference(a, b)) == needed(difference(3 * a + 1, 3 * b + 1))


def test_none_where_nothing_would_help():
    assert needed(difference(A, B[:1])) == (None, None)
    assert needed(difference(A, A)) == (None, None)  # no difference and no margin
    assert needed(difference(A, A), margin=50.0).seeds is not None


def test_arms_without_any_spread_ask_for_items_and_never_for_what_they_have() -> None:
    """All outputs wrong in both arms: 14 items were not enough, and 14 are no advice."""
    flat = np.zeros((3, 14))
    found = needed(difference(flat, flat), margin=0.02)
    assert found.seeds is None and found.items is not None
    more, fewer = (np.zeros((3, n)) for n in (found.items, found.items - 1))
    assert inside(difference(more, more), 0.02) and not inside(difference(fewer, fewer), 0.02)
