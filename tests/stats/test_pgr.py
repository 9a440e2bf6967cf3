"""PGR: by hand, its laws, what makes it undefined, and how often its interval covers."""

import numpy as np
import pytest
from benchmarks.triples import triple

from pilotfish.stats import difference, pgr, pooled
from pilotfish.stats.distributions import t_critical
from pilotfish.stats.pgr import NO_ITEMS, NOT_ABOVE, ONE_SEED, UNBOUNDED


def flat(value, seeds=3, items=10):
    return np.full((seeds, items), value)


@pytest.fixture
def arms():
    return triple(np.random.default_rng(0))


def test_by_hand():
    found = pgr(flat(0.5), flat(0.8), flat(0.9))
    assert found.raw == pytest.approx(0.75) and found.clamped == found.raw and found.defined
    assert (found.weak, found.strong, found.ceiling) == pytest.approx((0.5, 0.8, 0.9))
    assert found.gap == pytest.approx(0.4) and found.why == ""


@pytest.mark.parametrize(("strong", "raw", "clamped"), [(0.4, -0.25, 0.0), (1.0, 1.25, 1.0)])
def test_raw_may_leave_the_unit_interval_and_clamped_may_not(strong, raw, clamped):
    found = pgr(flat(0.5), flat(strong), flat(0.9))
    assert (found.raw, found.clamped) == pytest.approx((raw, clamped))


def test_student_equal_to_weak_is_0_and_equal_to_ceiling_is_1(arms):
    weak, _, ceiling = arms
    assert pgr(weak, weak, ceiling, draws=0).raw == 0.0
    assert pgr(weak, ceiling, ceiling, draws=0).raw == 1.0


def test_affine_in_the_metric(arms):
    plain = pgr(*arms, draws=500)
    scaled = pgr(*(3.0 * arm - 7.0 for arm in arms), draws=500, min_gap=0.06)
    for name in ("raw", "low", "high", "boot_low", "boot_high"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), abs=1e-9)


def test_a_metric_and_its_negated_loss_agree(arms):
    plain = pgr(*arms, draws=500)
    loss = pgr(*(1.0 - arm for arm in arms), draws=500, higher_is_better=False)
    for name in ("raw", "low", "high", "gap", "gap_low", "gap_high", "boot_low", "boot_high"):
        assert getattr(loss, name) == pytest.approx(getattr(plain, name), abs=1e-9), name
    assert loss.weak == pytest.approx(1.0 - plain.weak)  # shown as it was measured


def test_the_gap_has_the_interval_that_every_other_difference_has(arms):
    found, gap = pgr(*arms, draws=0), difference(arms[2], arms[0])
    assert (found.gap, found.gap_low, found.gap_high) == (gap.value, gap.low, gap.high)


def test_reproducible_and_free_of_the_order_of_items_and_seeds(arms):
    one = pgr(*arms)
    assert one == pgr(*arms)
    order = np.random.default_rng(1).permutation(arms[0].shape[1])
    mixed = pgr(*(arm[::-1, order] for arm in arms))
    assert mixed.raw == pytest.approx(one.raw, abs=1e-12)
    assert (mixed.low, mixed.high) == pytest.approx((one.low, one.high), abs=1e-9)


def test_interval_holds_exactly_the_values_that_the_contrast_does_not_rule_out(arms):
    """Agreement with the slow way: every r of a grid asked by itself."""
    weak, strong, ceiling = arms
    found = pgr(weak, strong, ceiling, draws=0)
    kept = [r for r in np.linspace(found.low - 0.3, found.high + 0.3, 400) if _kept(arms, r)]
    assert (min(kept), max(kept)) == pytest.approx((found.low, found.high), abs=0.004)


def _kept(arms, r):
    """By the formula of docs/methods/pgr.md, written out."""
    weights, n, s = np.array([r - 1.0, 1.0, -r]), arms[0].shape[1], 3
    value = sum(w * arm.mean() for w, arm in zip(weights, arms, strict=True))
    seed, noise = np.zeros(3), np.zeros(3)
    for at, a in enumerate(arms):
        left = a - a.mean(1, keepdims=True) - a.mean(0) + a.mean()
        noise[at] = (left**2).sum() / ((s - 1) * (n - 1))
        seed[at] = max(a.mean(axis=1).var(ddof=1), noise[at] / n / 3)
    per_item = sum(w * arm.mean(axis=0) for w, arm in zip(weights, arms, strict=True))
    by_item = max(0.0, per_item.var(ddof=1) - (weights**2 * noise).sum() / s) / n
    by_seed, even = weights**2 * seed / s, weights**2 * seed.mean() / s
    total = by_seed.sum() + by_item
    df = min(
        (each.sum() + by_item) ** 2 / ((each**2).sum() / (s - 1) + by_item**2 / (n - 1))
        for each in (by_seed, even)
    )
    return value**2 <= t_critical(0.05, df) ** 2 * total


def test_an_arm_weighs_with_the_spread_of_its_own_seeds():
    """Not with what the others bring: the student alone varies, or the weak model alone."""
    rng = np.random.default_rng(2)
    flat_weak, _, ceiling = (np.tile(arm[:1], (3, 1)) for arm in triple(rng, items=2000))
    item = rng.random(2000)
    wild = np.stack([(item < 0.8 + shift).astype(float) for shift in (-0.1, 0.0, 0.1)])
    found = pgr(flat_weak, wild, ceiling, draws=0)
    # by hand: the seed means of the student alone, at 2 degrees of freedom, over the gap
    half = 4.302652729911275 * wild.mean(axis=1).std(ddof=1) / 3**0.5 / found.gap
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    assert found.high - found.low > 1.3 * _pooled_width(flat_weak, wild, ceiling)


def _pooled_width(weak, strong, ceiling):
    """What one variance for all arms would give, to a first order."""
    seed = np.mean([arm.mean(axis=1).var(ddof=1) for arm in (weak, strong, ceiling)])
    gap, r = ceiling.mean() - weak.mean(), 0.5
    return 2 * 2.446911848791681 * (seed * (1 + r**2 + (1 - r) ** 2) / 3) ** 0.5 / gap


def test_overlapping_gap_prints_undefined_and_no_number():
    rng = np.random.default_rng(5)
    found = pgr(*triple(rng, items=500, floor=0.70, top=0.72, pgr=0.75))
    assert str(found).startswith("undefined: ") and "covers 0" in found.why
    numbers = (found.raw, found.clamped, found.low, found.high, found.boot_low, found.boot_high)
    assert not found.defined and numbers == (None,) * 6
    assert found.gap_low < 0 < found.gap_high  # the ingredients are still told


@pytest.mark.parametrize(
    ("weak", "ceiling", "why"),
    [(0.9, 0.5, NOT_ABOVE), (0.5, 0.5, NOT_ABOVE), (0.5, 0.51, "the gap 0.01 is below min_gap")],
)
def test_undefined_gaps(weak, ceiling, why):
    found = pgr(flat(weak), flat(0.6), flat(ceiling))
    assert not found.defined and found.raw is None and found.why.startswith(why)


def test_a_gap_of_exactly_min_gap_is_enough():
    assert pgr(flat(0.70), flat(0.715), flat(0.72)).defined  # 0.72 - 0.70 < 0.02 in floats


def test_one_seed_is_undefined_unless_no_seed_changes_the_arm(arms):
    weak, strong, ceiling = arms
    assert pgr(weak[:1], strong, ceiling).why == ONE_SEED
    assert pgr(weak, strong[:1], ceiling).why == ONE_SEED
    given = pgr(weak[:1], strong, ceiling, draws=200, fixed=(True, False, False))
    assert given.defined and given.seeds == (1, 3, 3)
    assert given.low < given.raw < given.high


def test_items_with_a_nan_anywhere_are_left_out_of_all_arms(arms):
    weak, strong, ceiling = (arm.copy() for arm in arms)
    weak[0, 3], ceiling[2, 7] = np.nan, np.inf
    found = pgr(weak, strong, ceiling, draws=0)
    rest = np.delete(np.arange(500), [3, 7])
    clean = pgr(*(arm[:, rest] for arm in arms), draws=0)
    assert found.excluded == 2 and found.items == 498 and found.raw == clean.raw
    weak[:] = np.nan
    nothing = pgr(weak, strong, ceiling)
    assert nothing.why == NO_ITEMS and nothing.gap is None and nothing.excluded == 500


def test_a_student_with_the_weak_models_answers_still_has_a_width():
    weak, ceiling = np.zeros((3, 40)), np.ones((3, 40))
    weak[:, :10] = 1.0
    found = pgr(weak, weak, ceiling, draws=0)
    unseen = (1 - 0.025 ** (1 / 40)) / 0.75  # by hand: a kind of item not met once among 40
    assert (found.raw, found.low, found.high) == pytest.approx((0.0, -unseen, unseen))


def test_shapes_that_do_not_fit_are_refused(arms):
    weak, strong, ceiling = arms
    with pytest.raises(ValueError, match="same items"):
        pgr(weak[:, :10], strong, ceiling)
    with pytest.raises(ValueError, match="matrix"):
        pgr(weak, strong[0], ceiling)


def test_an_interval_without_an_end_is_undefined():
    """The ceiling's two seeds alone carry the spread: at one degree of freedom the gap may be 0."""
    weak = np.tile(np.arange(2000) < 1000, (2, 1)).astype(float)
    ceiling = np.stack([np.arange(2000) < right for right in (1360, 1520)]).astype(float)
    strong = np.tile(np.arange(2000) < 1200, (2, 1)).astype(float)
    found = pgr(weak, strong, ceiling)
    assert found.gap_low > 0
    assert found.why == UNBOUNDED and found.raw is None


def test_pooled_shows_median_and_pgr_of_means():
    tasks = {
        "a": (flat(0.5), flat(0.6), flat(0.9)),  # 0.25
        "b": (flat(0.2), flat(0.3), flat(0.4)),  # 0.5
        "c": (flat(0.6), flat(0.9), flat(1.0)),  # 0.75
        "d": (flat(0.6), flat(0.9), flat(0.6)),  # undefined
    }
    found = pooled(tasks, draws=200)
    assert found.median == pytest.approx(0.5) and found.undefined == ("d",)
    # means over the four tasks: W 0.475, S 0.675, C 0.725
    assert found.of_means.raw == pytest.approx(0.8) and found.tasks["b"].raw == pytest.approx(0.5)
    assert pooled({"d": tasks["d"]}).median is None


def test_pooling_one_task_changes_nothing_and_more_tasks_narrow(arms):
    rng = np.random.default_rng(3)
    alone = pgr(*arms, draws=300)
    assert pooled({"x": tuple(arms)}, draws=300).of_means == alone
    many = pooled({str(i): tuple(triple(rng)) for i in range(4)}, draws=300).of_means
    assert many.high - many.low < 0.75 * (alone.high - alone.low)
    with pytest.raises(ValueError, match="no task"):
        pooled({})


@pytest.mark.parametrize("seeds", [3, 5])
def test_500_intervals_cover_the_true_pgr_in_93_to_97_percent(seeds):
    rng, covered, defined, count = np.random.default_rng(100 + seeds), 0, 0, 500
    for _ in range(count):
        truth = float(rng.choice([0.2, 0.5, 0.8]))
        arms = triple(
            rng,
            seeds=seeds,
            items=int(rng.choice([300, 500, 1000])),
            spread=float(rng.choice([0.005, 0.01, 0.02, 0.03])),
            pgr=truth,
        )
        found = pgr(*arms, draws=0)
        defined += found.defined
        covered += found.defined and found.low <= truth <= found.high
    assert defined >= 0.99 * count
    assert 0.93 <= covered / defined <= 0.97


@pytest.mark.parametrize("seeds", [3, 5])
def test_500_intervals_cover_where_the_seeds_of_the_student_alone_vary(seeds):
    """One variance for all arms holds the truth in 91 to 92 percent of these."""
    rng, covered, count = np.random.default_rng(200 + seeds), 0, 500
    for _ in range(count):
        truth = float(rng.choice([0.2, 0.5, 0.8]))
        arms = triple(rng, seeds=seeds, items=1000, spread=(0.005, 0.02, 0.005), pgr=truth)
        found = pgr(*arms, draws=0)
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / count <= 0.97


def test_percentile_bootstrap_is_too_narrow_at_three_seeds_and_therefore_second():
    rng = np.random.default_rng(9)
    found = [pgr(*triple(rng, items=500, spread=0.03), draws=300) for _ in range(40)]
    narrower = [one.boot_high - one.boot_low < one.high - one.low for one in found]
    assert np.mean(narrower) > 0.9
