"""The walk: by hand, its edges, what it must not depend on, and that it finds what fp32 picks."""

import numpy as np
import pytest

from pilotfish.budget import parse_budget
from pilotfish.methods.rankers import Gate, Middle, Top
from pilotfish.scoring.audit import Rule, cuts_of, net_speedup, remeasure_near_cuts
from pilotfish.scoring.audit.bounds import upper_rate
from pilotfish.scoring.audit.remeasure import audit_budget, audit_rows, spans
from tests.scoring.audit.simulate import audited_cut

ONLY_WALK = Rule(audit=0)


class Model:
    """fp32 by the row, which remembers what it was asked."""

    def __init__(self, exact):
        self.exact, self.asked = np.asarray(exact, dtype=float), []

    def __call__(self, rows):
        assert (np.diff(rows) > 0).all()
        self.asked += rows.tolist()
        return self.exact[rows]


def run(fast, exact, *, ranker=None, budget="4rows", rule=ONLY_WALK, lengths=None, **options):
    fast, n = np.asarray(fast, dtype=float), len(fast)
    lengths = np.full(n, 100) if lengths is None else lengths
    model = Model(exact)
    cuts = cuts_of(ranker or Top("high"), parse_budget(budget), tokens=lengths)
    walked = remeasure_near_cuts(fast, np.arange(n), lengths, cuts, model, rule=rule, **options)
    assert len(set(model.asked)) == len(model.asked), "a row was measured twice"
    return walked, model


def test_blocks_by_hand() -> None:
    far = np.arange(20.0)
    mask, blocks = audit_budget(far, np.array([], dtype=int), 0.0, rows=2, clean=3)
    assert (mask.sum(), blocks) == (6, 3)
    mask, blocks = audit_budget(
        far, np.array([3]), 0.0, rows=2, clean=3
    )  # in block 1: on to block 4
    assert (mask.nonzero()[0].tolist(), blocks) == (list(range(10)), 5)
    mask, _ = audit_budget(far, np.array([]).astype(int), 4.0, rows=2, clean=3)  # 0-4, 5-9, 10-14
    assert mask.sum() == 15
    mask, _ = audit_budget(
        far, np.array([14]), 0.0, rows=2, clean=2
    )  # far off: around it, both sides
    assert mask.nonzero()[0].tolist() == [0, 1, 2, 3, *range(10, 20)]
    assert audit_budget(far[:0], np.array([]).astype(int), 1.0, rows=2, clean=3)[1] == 0
    assert audit_budget(far[:3], np.array([2]), 9.0, rows=2, clean=3)[0].all()


def test_a_block_spans_the_errors_met() -> None:
    rule = Rule(width=1.5, reach=0.5)
    errors = np.concatenate([np.full(40, 0.2), np.full(40, -0.4), [np.nan]])
    errors[0] = 2.0
    stratum = np.repeat([0, 1], [40, 41])
    rms = np.sqrt((39 * 0.04 + 4) / 40)
    assert spans(errors, stratum, rule) == pytest.approx([max(1.0, 1.5 * rms), 0.6])
    assert spans(np.full(5, np.nan), np.zeros(5, dtype=int), rule) == pytest.approx([0.0])
    few = spans(errors, np.repeat([0, 1], [71, 10]), rule)  # ten errors alone do not speak
    assert few[1] == pytest.approx(max(1.0, 1.5 * np.sqrt(np.nanmean(errors**2))))


def test_a_swap_at_the_cut_is_put_right_and_the_far_rows_are_left() -> None:
    exact = np.linspace(2.0, 1.0, 100)
    fast = exact.copy()
    fast[[9, 10]] = fast[[10, 9]] + [-1e-4, 1e-4]
    walked, model = run(fast, exact, budget="10rows", rule=Rule(rows=2, audit=0))
    assert walked.kept.nonzero()[0].tolist() == list(range(10))
    assert (walked.flips, walked.swapped, walked.cuts) == (2, 1, ("budget",))
    assert {9, 10} <= set(model.asked) and max(model.asked) < 40
    assert (walked.scores == exact).all()
    assert walked.remeasured.sum() == walked.walked == len(model.asked)
    assert walked.share == pytest.approx(walked.walked / 100)


def test_exact_scores_cost_three_blocks_on_each_side() -> None:
    exact = np.linspace(2.0, 1.0, 1_000)
    walked, _ = run(exact, exact, budget="10%", rule=Rule(rows=4, audit=0))
    assert (walked.walked, walked.blocks, walked.flips, walked.calls) == (24, 6, 0, 1)


def test_a_cut_that_moves_is_followed() -> None:
    # Every fast score above 1.5 is inflated: each correction takes a row out and the cut down.
    exact = np.linspace(2.0, 1.0, 400)
    fast = np.where(exact > 1.9, exact, exact + 0.004 * np.sin(np.arange(400)))
    exact = np.where((exact > 1.72) & (exact < 1.75), exact - 0.05, exact)
    walked, _ = run(fast, exact, budget="25%", rule=Rule(rows=5, audit=0))
    assert (
        walked.kept == cuts_of(Top("high"), parse_budget("25%")).kept(exact, np.arange(400))
    ).all()


def test_rows_at_the_gate_are_all_measured() -> None:
    rng = np.random.default_rng(0)
    exact = np.exp(rng.normal(-0.3, 0.3, 2_000))
    exact[:60] = 1.0
    fast = exact * np.exp(rng.normal(0, 1e-4, 2_000))
    ranker = Top("high", Gate(below=1.0))
    walked, model = run(fast, exact, ranker=ranker, budget="10%")
    assert set(range(60)) <= set(model.asked)
    assert not walked.kept[:60].any()
    assert walked.kept.sum() == 200


@pytest.mark.parametrize("budget", ["1%", "50rows", "80rows"])  # none of 50, all, more than all
def test_no_cut_means_no_walk(budget) -> None:
    scores = np.linspace(1, 2, 50)
    walked, model = run(scores, scores, budget=budget)
    assert (walked.cuts, model.asked, walked.walked, walked.blocks) == ((), [], 0, 0)
    assert walked.kept.sum() == (0 if budget == "1%" else 50)


def test_a_gate_alone_is_walked_when_every_eligible_row_is_taken() -> None:
    exact = np.array([0.5, 0.8, 0.999, 1.001, 1.4])
    fast = np.array([0.5, 0.8, 1.0005, 0.9995, 1.4])
    walked, _ = run(fast, exact, ranker=Top("low", Gate(below=1.0)), budget="5rows")
    assert walked.cuts == ("gate < 1",)
    assert walked.kept.nonzero()[0].tolist() == [0, 1, 2]


def test_all_equal_scores_are_cut_by_tie_and_need_no_more_than_the_first_blocks() -> None:
    walked, _ = run(np.ones(500), np.ones(500), budget="10rows", rule=Rule(rows=500, audit=0))
    assert walked.kept.nonzero()[0].tolist() == list(range(10))
    assert walked.flips == 0


def test_a_pool_smaller_than_a_block_is_measured_whole() -> None:
    walked, model = run([3.0, 2, 1], [1.0, 2, 3], budget="1rows", rule=Rule(rows=50))
    assert sorted(model.asked) == [0, 1, 2]
    assert walked.kept.tolist() == [False, False, True]
    assert (walked.audited, walked.bound, walked.share) == (0, 0.0, 1.0)


def test_unscorable_rows_are_always_measured_but_for_those_given_up() -> None:
    exact = np.linspace(2.0, 1.0, 200)
    fast = exact.copy()
    fast[[3, 150, 160]] = [np.nan, np.inf, np.nan]
    given_up = np.arange(200) == 160
    walked, model = run(fast, exact, rule=Rule(rows=2, audit=0), given_up=given_up)
    assert {3, 150} <= set(model.asked) and 160 not in model.asked
    assert walked.kept.nonzero()[0].tolist() == [0, 1, 2, 3]
    assert np.isnan(walked.scores[160])


def test_all_unscorable_asks_for_all_and_takes_what_comes() -> None:
    walked, model = run(np.full(30, np.nan), np.linspace(2, 1, 30))
    assert len(model.asked) == 30
    assert walked.kept.nonzero()[0].tolist() == [0, 1, 2, 3]
    nothing, _ = run(np.full(5, np.nan), np.full(5, np.nan))
    assert not nothing.kept.any() and nothing.bound == 0.0


def test_a_row_that_fp32_cannot_score_is_a_flip_and_never_kept() -> None:
    exact = np.linspace(2.0, 1.0, 300)
    fast = exact.copy()
    exact[3] = np.nan
    walked, _ = run(fast, exact, rule=Rule(rows=2, audit=0))
    assert walked.flips >= 1
    assert walked.kept.nonzero()[0].tolist() == [0, 1, 2, 4]


def test_a_callback_that_answers_for_other_rows_is_refused() -> None:
    cuts = cuts_of(Top("high"), parse_budget("4rows"))
    with pytest.raises(ValueError, match="re-measuring 1"):
        remeasure_near_cuts(
            np.arange(10.0), np.arange(10), np.ones(10, int), cuts, lambda rows: np.ones(3)
        )


@pytest.mark.parametrize("bad", ["ties", "lengths"])
def test_what_does_not_fit_together_is_refused(bad) -> None:
    tie = np.zeros(4, dtype=int) if bad == "ties" else np.arange(4)
    lengths = np.ones(3 if bad == "lengths" else 4, dtype=int)
    cuts = cuts_of(Top("high"), parse_budget("2rows"))
    with pytest.raises(ValueError, match=r"differ|share a place"):
        remeasure_near_cuts(np.ones(4), tie, lengths, cuts, Model(np.ones(4)))


def test_the_audit_counts_what_the_walk_cannot_see() -> None:
    exact = np.linspace(2.0, 1.0, 8_000)
    fast = exact.copy()
    broken = np.arange(4_000, 4_400, 100)  # four rows far from the cut whose fast score is nonsense
    exact[broken] = 3.0
    kept = cuts_of(Top("high"), parse_budget("10%")).kept(exact, np.arange(8_000))
    walked, _ = run(fast, exact, budget="10%", rule=Rule(rows=5, audit=4_000))
    found = int(walked.remeasured[broken].sum())
    assert 0 < found == walked.audit_flips < 4
    assert walked.bound == pytest.approx(upper_rate(found, 4_000))
    assert int((kept & ~walked.kept).sum()) == 4 - found <= walked.bound * 8_000
    assert walked.walked < 400  # two broken rows do not make the walk take the pool


def test_what_the_audit_finds_is_walked_around() -> None:
    exact = np.linspace(2.0, 1.0, 8_000)
    fast = exact.copy()
    broken = np.arange(4_000, 4_060)  # a clump of neighbours, as of one template
    exact[broken] = 3.0
    walked, _ = run(fast, exact, budget="10%", rule=Rule(rows=5, audit=1_000))
    assert 0 < walked.audit_flips < 60
    assert (walked.kept == cuts_of(Top("high"), parse_budget("10%")).kept(
        exact, np.arange(8_000))).all()  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "audited"), [(1_000, 300), (20_000, 400), (52_000, 1_040), (400_000, 3_000)]
)
def test_an_audit_costs_a_fiftieth_of_the_pool_within_bounds(rows: int, audited: int) -> None:
    assert audit_rows(rows) == audited


def test_a_clean_audit_bounds_at_a_tenth_of_a_percent() -> None:
    exact = np.linspace(2.0, 1.0, 20_000)
    walked, model = run(exact, exact, budget="10%", rule=Rule(audit=3_000))
    assert (walked.audited, walked.audit_flips) == (3_000, 0)
    assert walked.bound == pytest.approx(0.001, rel=0.01)
    assert walked.audit_share == pytest.approx(0.15)
    again, other = run(exact, exact, budget="10%", rule=Rule(audit=3_000, seed=1))
    assert set(model.asked) != set(other.asked)
    assert again.walked == walked.walked


def test_known_scores_are_not_asked_for_again() -> None:
    exact = np.linspace(2.0, 1.0, 300)
    known = np.where(np.arange(300) < 20, exact, np.nan)
    walked, model = run(exact + 1e-6, exact, rule=Rule(rows=2, audit=0), known=known)
    assert min(model.asked, default=20) >= 20
    assert walked.walked == 20 + len(model.asked)


def test_negative_scores_are_walked_as_they_are() -> None:
    exact = np.linspace(1.0, -1.0, 500)
    fast = exact + 0.002 * np.sin(np.arange(500) * 1.7)
    walked, _ = run(fast, exact, budget="50%")
    assert walked.kept.nonzero()[0].tolist() == list(range(250))


def test_short_rows_get_the_wider_band() -> None:
    exact, fast, tie, lengths = audited_cut.draw(np.random.default_rng(5), 20_000, error=1e-3)
    cuts = cuts_of(Top("high"), parse_budget("10%"))
    walked = remeasure_near_cuts(fast, tie, lengths, cuts, lambda rows: exact[rows], rule=ONLY_WALK)
    share = [walked.remeasured[mask].mean() for mask in (lengths < 20, lengths > 200)]
    assert share[0] > 3 * share[1]


@pytest.mark.parametrize("ranker", ["high", "low", "middle"])
def test_the_order_of_the_rows_is_free(ranker) -> None:
    exact, fast, tie, lengths = audited_cut.draw(np.random.default_rng(6), 3_000, error=2e-3)
    moved = np.random.default_rng(7).permutation(3_000)
    found = []
    for order in (np.arange(3_000), moved):
        one, truth, ties, tokens = fast[order], exact[order], tie[order], lengths[order]
        cuts = cuts_of(audited_cut.RANKERS[ranker], parse_budget("10%"))
        walked = remeasure_near_cuts(
            one, ties, tokens, cuts, lambda r, t=truth: t[r], rule=Rule(audit=200)
        )
        found.append((walked, set(ties[walked.kept]), set(ties[walked.remeasured])))
    assert found[0][1:] == found[1][1:]
    assert found[0][0].flips == found[1][0].flips


@pytest.mark.parametrize(
    ("n", "options", "most"),
    [
        (10_000, {"error": 2e-4}, 0.06),
        (10_000, {"error": 1e-3}, 0.08),
        (10_000, {"error": 1e-3, "kind": "biased"}, 0.09),
        (10_000, {"error": 1e-3, "kind": "all_lengths_alike"}, 0.07),
        (10_000, {"error": 2e-4, "kind": "student_4"}, 0.06),
        (10_000, {"error": 2e-4, "kind": "one_in_20_is_5x"}, 0.07),
        (10_000, {"error": 1e-3, "shape": "at_the_gate"}, 0.12),
        (10_000, {"error": 1e-3, "shape": "ties"}, 0.11),
        (10_000, {"error": 1e-3, "shape": "duplicates"}, 0.09),
        (10_000, {"error": 1e-3, "ranker": "low"}, 0.04),
        (10_000, {"error": 1e-3, "ranker": "middle"}, 0.13),
        (10_000, {"error": 1e-3, "budget": "50_000tokens"}, 0.09),
        (1_000, {"error": 1e-3}, 0.12),
        (40_000, {"error": 1e-3}, 0.08),
    ],
    ids=str,
)
def test_the_walk_finds_the_rows_that_fp32_picks(n, options, most) -> None:
    runs = [
        audited_cut.once(seed, n, **options)
        for seed in range(100, 100 + max(3, min(20, 40_000 // n)))
    ]
    assert [wrong for wrong, _ in runs if wrong] == []
    assert np.mean([walked.share for _, walked in runs]) <= most


def test_two_gated_middle_cuts_against_every_row_measured() -> None:
    exact, fast, tie, lengths = audited_cut.draw(np.random.default_rng(8), 2_000, error=5e-3)
    cuts = cuts_of(Middle(Gate(below=1.0)), parse_budget("30%"))
    walked = remeasure_near_cuts(fast, tie, lengths, cuts, lambda rows: exact[rows], rule=ONLY_WALK)
    assert walked.cuts == ("gate < 1", "budget, upper end", "budget, lower end")
    assert (walked.kept == cuts.kept(exact, tie)).all()


def test_quotas_are_walked_each_on_its_own() -> None:
    exact, fast, tie, lengths = audited_cut.draw(np.random.default_rng(9), 4_000, error=3e-3)
    groups = np.where(np.arange(4_000) % 3 == 0, "a", "b").astype(object)
    cuts = cuts_of(
        Top("high", Gate(below=1.0)), parse_budget("1rows"), groups=groups,
        quotas={"a": 300, "b": 50},
    )  # fmt: skip
    walked = remeasure_near_cuts(fast, tie, lengths, cuts, lambda rows: exact[rows], rule=ONLY_WALK)
    assert walked.cuts == ("gate < 1", "budget of a", "budget of b")
    assert (walked.kept == cuts.kept(exact, tie)).all()


def test_net_speed_counts_all_that_is_measured_twice() -> None:
    assert net_speedup(4.0, 0.0) == pytest.approx(4.0)
    assert net_speedup(4.0, 0.05, 0.03) == pytest.approx(1 / 0.33)
    assert net_speedup(4.0, 1.0) < 1.0
    with pytest.raises(ValueError, match="above 0"):
        net_speedup(0.0, 0.1)
