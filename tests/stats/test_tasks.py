"""Macro-average over tasks: by hand, against `difference`, its coverage; and the halves."""

import numpy as np
import pytest

from pilotfish.stats import difference, halves, macro, needed
from tests.stats.simulate import arms


def drawn(rng, *, items=(150, 60, 300), seeds=(3, 3), spread=0.02, own=0.01, gaps=(0.0, 0.0, 0.0)):
    """Tasks judged by the same seeds: a seed's shift is shared, with a part of each task's own."""
    shared = [rng.normal(0, spread, (count, 1)) for count in seeds]
    pairs = []
    for n, gap in zip(items, gaps, strict=True):
        base = 0.1 + 0.8 * rng.beta(1.5, 1.5, n)
        pairs.append(tuple(
            _judged(rng, base + side * gap / 2 + rng.normal(0, 0.03, n), level, own)
            for side, level in zip((1, -1), shared, strict=True)
        ))  # fmt: skip
    return pairs


def _judged(rng, share, shift, own):
    levels = share + shift + rng.normal(0, own, shift.shape)
    return (rng.random(levels.shape) < levels).astype(float)


def test_each_task_weighs_the_same_whatever_its_size():
    ones, none = np.ones, np.zeros
    found = macro([(ones((2, 10)), none((2, 10))), (none((2, 90)), none((2, 90)))])
    assert found.value == 0.5 and found.items == 100 and found.seeds == (2, 2)


def test_one_task_is_the_difference():
    a, b = arms(np.random.default_rng(0), seeds=(3, 4), items=200, spread=0.02, gap=0.1)
    one, same = macro([(a, b)]), difference(a, b)
    assert one.value == pytest.approx(same.value)
    assert (one.low, one.high) == (pytest.approx(same.low), pytest.approx(same.high))


def test_copies_of_a_task_narrow_the_items_and_not_the_seeds():
    a, b = arms(np.random.default_rng(0), seeds=(3, 3), items=200, spread=0.02, interaction=0.1)
    one, four = macro([(a, b)]).parts, macro([(a, b)] * 4).parts
    assert four.by_seed == pytest.approx(one.by_seed)
    assert four.by_item == pytest.approx(one.by_item / 4)
    assert four.noise / four.n == pytest.approx(one.noise / one.n / 4)


def test_swapping_flips_and_orders_are_free():
    rng = np.random.default_rng(0)
    pairs = drawn(rng)
    found, turned = macro(pairs), macro([(b, a) for a, b in reversed(pairs)])
    assert turned.value == pytest.approx(-found.value) and turned.low == pytest.approx(-found.high)
    mixed = [tuple(arm[:, ::-1] for arm in pair) for pair in pairs]
    assert macro(mixed).high == pytest.approx(found.high)


@pytest.mark.parametrize(("spread", "own"), [(0.005, 0.0), (0.03, 0.0), (0.01, 0.02)])
def test_the_interval_holds_the_truth(spread, own):
    rng, held = np.random.default_rng(1), 0
    for _ in range(300):
        found = macro(drawn(rng, spread=spread, own=own, gaps=(0.06, -0.06, 0.06)))
        held += found.low <= 0.02 <= found.high
    assert 0.92 <= held / 300 <= 0.99


def test_a_task_without_items_or_seeds_makes_no_number_or_no_interval():
    pairs = drawn(np.random.default_rng(0))
    empty = (np.full((3, 4), np.nan), np.zeros((3, 4)))
    assert macro([*pairs, empty]).value is None and macro([*pairs, empty]).excluded == 4
    lone = macro([(a[:1], b) for a, b in pairs])
    assert lone.value is not None and lone.low is None and lone.parts is None
    base = macro([(a[:1], b) for a, b in pairs], fixed=(True, False))
    assert base.low < base.value < base.high


def test_arms_that_never_differ_keep_an_exact_bound():
    flat = [(np.ones((3, n)), np.ones((3, n))) for n in (20, 50)]
    found = macro(flat)
    assert found.value == 0.0 and found.high == pytest.approx(
        1 - np.mean([0.025 ** (1 / n) for n in (20, 50)])
    )
    assert found.p == 1.0


def test_what_is_needed_reads_the_parts():
    found = macro(drawn(np.random.default_rng(3), gaps=(0.06, 0.06, 0.06)))
    advice = needed(found)
    assert found.low <= 0 <= found.high and advice.seeds is not None and advice.seeds > 3


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="no task"):
        macro([])
    with pytest.raises(ValueError, match="same seeds"):
        macro([(np.ones((2, 5)), np.ones((2, 5))), (np.ones((3, 5)), np.ones((2, 5)))])
    with pytest.raises(ValueError, match="same items"):
        macro([(np.ones((2, 5)), np.ones((2, 6)))])


def test_halves_follow_the_id_alone():
    ids = [f"row-{i}" for i in range(4000)]
    side = halves(ids)
    assert side.dtype == bool and 0.47 < side.mean() < 0.53
    assert np.array_equal(halves(ids[::-1]), side[::-1])
    assert np.array_equal(halves(ids[:7]), side[:7])
    assert halves(["a", "b", "a"])[0] == halves(["a", "b", "a"])[2]
    other = halves(ids, salt="again")
    assert 0.45 < (other == side).mean() < 0.55
    assert halves([]).shape == (0,)


def test_halves_never_move():
    """A half is part of a finished run's verdict: these must stay what they are."""
    assert halves(list("abcdefgh")).tolist() == HALVES


HALVES = [False, True, True, False, False, True, False, True]
