"""Secondary pairs: which ones, Holm over the claims, and clear sentences for bad results."""

import pytest

from pilotfish.comparison.contrast import margin_of
from pilotfish.comparison.data import ComparisonData
from pilotfish.comparison.secondary import PAIRS, comparisons
from pilotfish.stats import holm
from tests.comparison.makers import drawn


def compared(results, plan=None):
    margin = margin_of("exact_match")
    rows = comparisons(ComparisonData(results, "exact_match", True, margin, plan=plan or {}))
    return {(row["arm"], row["against"]): row for row in rows}


EVERYTHING = {
    name: drawn(share, seed=at)
    for at, (name, share) in enumerate(
        {
            "random": 0.45, "length_matched": 0.45, "longest": 0.4, "full": 0.5, "selected": 0.68,
            "trusted": 0.78, "trusted_random": 0.6, "trusted_full": 0.6, "trusted_selected": 0.8,
            "relabel_all": 0.58, "selected_kd": 0.6,
        }.items()
    )
} | {"weak": drawn(0.5, seeds=1, seed=50), "base": drawn(0.1, seeds=1, seed=51)}  # fmt: skip


def test_every_pair_is_there_and_arms_of_ones_own_are_held_against_selected():
    assert list(compared(EVERYTHING)) == [*PAIRS, ("selected_kd", "selected")]


def test_a_variant_stands_against_the_arm_it_varies():
    arms = {name: EVERYTHING[name] for name in ("random", "relabel_all", "selected")}
    own = {"half": drawn(0.5, seed=60), "kinder": drawn(0.5, seed=61)}
    plan = {"variants": {"half": "relabel_all", "kinder": "random"}}
    assert set(compared(arms | own, plan=plan)) == {
        ("selected", "relabel_all"), ("half", "relabel_all"), ("kinder", "random"),
    }  # fmt: skip


def test_other_budgets_and_methods_stand_against_controls_of_their_own_size():
    names = ("random", "selected", "easy", "random@5pct", "selected@5pct", "easy@5pct",
             "random_tokens", "full@epochs")  # fmt: skip
    arms = {name: drawn(0.5, seed=at) for at, name in enumerate(names)}
    assert set(compared(arms, plan={"methods": {"easy": "perplexity"}})) == {
        ("selected@5pct", "random@5pct"), ("easy", "random"), ("easy@5pct", "random@5pct"),
    }  # fmt: skip


def test_pairs_without_their_arms_are_left_out():
    some = {name: EVERYTHING[name] for name in ("selected", "random", "full")}
    assert list(compared(some)) == [("selected", "full")]
    assert compared({}) == {}


def test_p_values_are_corrected_over_all_claims():
    rows = list(compared(EVERYTHING).values())
    assert [row["p_holm"] for row in rows] == holm([row["p"] for row in rows])


def test_holm_can_take_a_win_away():
    close = {name: EVERYTHING["random"] for name in EVERYTHING if name != "weak"}
    pair = None
    for seed in range(200):  # find a pair that wins alone by little
        pair = {"selected": drawn(0.53, seed=300 + seed), "full": drawn(0.45, seed=500 + seed)}
        alone = compared(pair)[("selected", "full")]
        if 0.01 < alone["p"] < 0.05:
            break
    assert alone["outcome"] == "better"
    among = compared({**close, **pair})[("selected", "full")]
    assert (among["low"], among["p"]) == (alone["low"], alone["p"])
    assert among["p_holm"] > 0.05
    assert among["outcome"] == "undecided"
    assert among["sentence"].startswith("Undecided: on average")
    assert "not significant among" in among["sentence"]
    assert "after Holm's correction" in among["sentence"]


def test_too_few_seeds_is_an_indication_outside_the_correction():
    some = {
        "selected": EVERYTHING["selected"],
        "full": drawn(0.5, seeds=1),
        "longest": drawn(0.4, seeds=3, seed=9),
    }
    rows = compared(some)
    full, longest = rows["selected", "full"], rows["selected", "longest"]
    assert (full["outcome"], full["p_holm"], full["low"]) == ("not_tested", None, None)
    assert full["difference"] > 0
    assert longest["p_holm"] == longest["p"]


def test_a_weak_model_judged_once_is_no_missing_seed():
    some = {name: EVERYTHING[name] for name in ("selected", "weak")}
    row = compared(some)["selected", "weak"]
    assert row["outcome"] == "better"
    assert row["seeds"] == [3, 1]
    assert row["sentence"].startswith("Strong minus weak: selected rows beat the weak model")


def test_a_strong_model_that_does_not_reach_the_weak_one_is_said():
    behind = {"selected": drawn(0.3, seed=1), "weak": drawn(0.6, seeds=1, seed=2)}
    row = compared(behind)["selected", "weak"]
    assert row["outcome"] == "worse"
    assert "the weak model beat selected rows" in row["sentence"]


@pytest.mark.parametrize(
    ("rival", "words"),
    [
        ("trusted", "Trusted rows alone beat selected rows"),
        ("full", "All rows beat selected rows"),
        ("longest", "The longest rows beat selected rows"),
        ("relabel_all", "Selection against relabel-all: all prompts relabeled by the weak model"),
    ],
)
def test_a_rival_ahead_is_said_plainly(rival, words):
    row = compared({"selected": drawn(0.4, seed=1), rival: drawn(0.8, seed=2)})["selected", rival]
    assert row["outcome"] == "worse"
    assert row["sentence"].startswith(words)


def test_an_undecided_pair_names_who_is_ahead():
    row = compared({"selected": drawn(0.50, seed=1), "full": drawn(0.53, seed=2)})[
        "selected", "full"
    ]
    assert row["outcome"] == "undecided"
    assert "on average all rows did better than selected rows" in row["sentence"]


def test_sentences_are_sentences():
    for row in compared(EVERYTHING).values():
        assert row["sentence"][0].isupper()
        assert row["sentence"].endswith(".")
        assert "None" not in row["sentence"]
