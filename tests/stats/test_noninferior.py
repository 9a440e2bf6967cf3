"""Non-inferiority: by hand, at its edges, mirrored, and its errors at the margin."""

import numpy as np
import pytest

from pilotfish.stats import difference, noninferior, t_critical
from tests.stats.simulate import arms


def pair(gap, *, seeds=(4, 4), items=800, spread=0.004, seed=0):
    rng = np.random.default_rng(seed)
    return arms(rng, seeds=seeds, items=items, spread=spread, gap=gap, interaction=0.01)


def test_by_hand_with_one_sided_bounds():
    # seed means .5 +- .1 and .6 +- .1, no noise and no item part beyond rounding
    new, ref = (np.array([[m - 0.1] * 4, [m + 0.1] * 4]) for m in (0.5, 0.6))
    found = noninferior(new, ref, margin=0.02)
    half = t_critical(0.10, 2) * np.sqrt(0.02)  # seed variance .02, reps 1/2 + 1/2
    assert found.difference == pytest.approx(-0.1)
    assert found.low == pytest.approx(-0.1 - half) and found.high == pytest.approx(-0.1 + half)
    assert found.outcome == "inconclusive"


@pytest.mark.parametrize(
    ("gap", "outcome"), [(0.05, "pass"), (-0.2, "fail"), (-0.02, "inconclusive")]
)
def test_outcomes(gap, outcome):
    found = noninferior(*pair(gap), margin=0.02)
    assert found.outcome == outcome
    assert (found.needed is not None) == (outcome == "inconclusive")


@pytest.mark.parametrize("gap", [0.05, 0.0, -0.02, -0.04, -0.2])
def test_p_values_agree_with_the_bounds(gap):
    for seed in range(5):
        found = noninferior(*pair(gap, seed=seed), margin=0.02)
        assert (found.p_fail < 0.05) == (found.outcome == "fail")
        assert (found.p_pass < 0.05) == (found.outcome == "pass")
        assert found.p_fail + found.p_pass == pytest.approx(1.0)


def test_a_loss_is_the_mirror_of_a_gain():
    new, ref = pair(-0.03)
    up, down = (noninferior(*both, margin=0.02, higher_is_better=way)
                for both, way in (((new, ref), True), ((-new, -ref), False)))  # fmt: skip
    assert (up.outcome, up.difference, up.p_fail) == (down.outcome, down.difference, down.p_fail)
    lower = noninferior(*pair(0.2), margin=0.02, higher_is_better=False)
    assert lower.outcome == "fail" and lower.difference < 0


def test_orders_of_seeds_and_items_are_free():
    new, ref = pair(-0.02)
    order = np.random.default_rng(1).permutation(new.shape[1])
    one, two = (
        noninferior(new, ref, margin=0.02),
        noninferior(new[::-1, order], ref[:, order], margin=0.02),
    )
    assert one.outcome == two.outcome and one.low == pytest.approx(two.low)


def test_one_seed_is_inconclusive_but_a_fixed_arm_has_one_row():
    new, ref = pair(0.3, seeds=(4, 1))
    lone = noninferior(new, ref, margin=0.02)
    assert lone.outcome == "inconclusive" and lone.low is None and lone.p_fail is None
    assert lone.needed is None and lone.difference > 0.2
    assert noninferior(new, ref, margin=0.02, fixed=(False, True)).outcome == "pass"
    turned = noninferior(new, ref, margin=0.02, fixed=(False, True), higher_is_better=False)
    assert turned.outcome == "fail"


def test_no_usable_item_is_inconclusive():
    empty = np.full((3, 5), np.nan)
    found = noninferior(empty, empty, margin=0.02)
    assert found.outcome == "inconclusive" and found.difference is None


def test_arms_that_never_differ_pass_only_with_enough_items():
    """Equal on 14 items is no proof; the exact bound 1 - .05^(1/n) is below .02 from n = 149."""
    for items, outcome in ((14, "inconclusive"), (148, "inconclusive"), (149, "pass")):
        flat = np.ones((3, items))
        found = noninferior(flat, flat, margin=0.02)
        assert found.outcome == outcome and (found.p_pass < 0.05) == (outcome == "pass")
    assert noninferior(np.ones((3, 14)), np.ones((3, 14)), margin=0.02).needed.items == 149


def test_advice_decides_when_followed_in_its_own_terms():
    """The advised number of the very same items: they repeat the estimate, luck and all."""
    for seed in range(20):
        new, ref = pair(0.005, spread=0.0, seed=seed, seeds=(1, 1), items=400)
        found = noninferior(new, ref, margin=0.02, fixed=(True, True))
        if found.outcome == "inconclusive" and found.needed.items:
            times = -(-found.needed.items // 400)
            many = (np.tile(new, times), np.tile(ref, times))
            more = noninferior(*many, margin=0.02, fixed=(True, True))
            assert more.outcome != "inconclusive"
            return
    raise AssertionError("every draw was decided")


def test_the_bounds_are_those_of_difference():
    new, ref = pair(0.0)
    found, wide = noninferior(new, ref, margin=0.01, alpha=0.05), difference(new, ref, alpha=0.10)
    assert (found.low, found.high) == (wide.low, wide.high)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="margin"):
        noninferior(*pair(0.0), margin=-0.01)
    with pytest.raises(ValueError, match="margin"):
        noninferior(*pair(0.0), margin=float("nan"))


def test_errors_at_the_margin_are_about_alpha():
    rng, wrong = np.random.default_rng(0), {"pass": 0, "fail": 0, "inconclusive": 0}
    for _ in range(150):
        both = arms(rng, seeds=(3, 3), items=300, spread=0.01, gap=-0.05, interaction=0.02)
        wrong[noninferior(*both, margin=0.05).outcome] += 1
    assert wrong["pass"] / 150 < 0.11 and wrong["fail"] / 150 < 0.11
