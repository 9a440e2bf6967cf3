"""Break-even by hand, and whether what was saved was saved at equal quality."""

from dataclasses import replace

import pytest

from pilotfish.comparison.recommend import NO_QUALITY, SelectionCost, break_even
from pilotfish.flops import Cost
from tests.comparison.cases import made

ROWS = {"selected": 200, "random": 200}
TRAINED = {"selected seed 0": Cost(seconds=20.0, flops=2e12)}
CHARGED = Cost(seconds=10.0, flops=1e12)
COST = SelectionCost(CHARGED, TRAINED, 1000)
WORTH = {"value": 2.0, "rows": 200, "censored": False, "side": "", "low": 1.5, "high": None}


def told(shares, **options):
    seeds = options.pop("seeds", 3)
    case = made(shares, items=4000, spread=0.002, rows=ROWS, seeds=seeds)
    return break_even(case, COST, **options)


PLAIN = {"selected": 0.7, "random": 0.6}


def test_without_a_rival_to_equal_nothing_is_said_of_quality():
    found = told(PLAIN)
    assert found["sentence"].endswith(NO_QUALITY)
    assert (found["ratio"], found["random_seconds"]) == (None, None)


@pytest.mark.parametrize(
    ("full", "seeds", "said"),
    [
        (0.5, 3, "The model is better than the one trained on all rows."),
        (0.9, 3, "Quality is not equal: the model trained on all rows is better."),
        (0.5, 1, NO_QUALITY),
    ],
)
def test_against_all_rows(full, seeds, said):
    found = told({**PLAIN, "full": full}, seeds=seeds)
    assert found["sentence"].endswith(said)


def test_all_rows_perhaps_better():
    case = made({"selected": 0.7, "full": 0.72}, items=100, spread=0.03, rows=ROWS)
    found = break_even(case, COST)
    assert found and found["sentence"].endswith("Whether all rows would be better is undecided.")


def test_all_rows_no_better_within_the_margin():
    case = made({"selected": 0.7, "full": 0.7}, items=40_000, spread=0.0005, rows=ROWS)
    found = break_even(case, COST)
    assert found and "Quality is equal: all rows are no better" in found["sentence"]


@pytest.mark.parametrize(
    ("worth", "seconds", "said"),
    [
        # 200 more rows than the 200 selected ones, which took 20 s; selecting took 10 s
        (
            {},
            20.0,
            "About 400 random rows (interval 300 to ?) do as well; they need 20 s more "
            "training, more than selecting",
        ),
        (
            {"value": 1.2},
            4.0,
            "About 240 random rows (interval 300 to ?) do as well; they need 4 s more "
            "training, less than selecting",
        ),
        ({"value": 0.5}, -10.0, "no more than the selected ones: nothing is saved."),
        (
            {"value": 5.0, "censored": True, "side": "above"},
            None,
            "tried (at most 1,000) does as well.",
        ),
        (
            {"value": 1.0, "censored": True, "side": "below"},
            None,
            "that were tried (200) do better",
        ),
        ({"value": None}, None, NO_QUALITY),
    ],
)
def test_against_random_rows_as_good(worth, seconds, said):
    found = told(PLAIN, worth={**WORTH, **worth})
    assert found["random_seconds"] == (None if seconds is None else pytest.approx(seconds))
    assert said in found["sentence"]


def test_the_ratio_of_the_models():
    case = made(PLAIN, rows=ROWS)
    trained = {key: {**facts, "parameters": 6e8} for key, facts in case.trained.items()}
    case = type(case)(case.results, case.metric, True, 0.02, trained, case.plan)
    found = break_even(case, replace(COST, weak_parameters=1e8))
    assert found and found["ratio"] == 6.0
    assert found["sentence"].endswith(
        "The strong model has 6.0 times the parameters of the weak model."
    )


@pytest.mark.parametrize("trained", [{}, {"selected seed 0": Cost(flops=1.0)}])
def test_without_a_recorded_time_there_is_no_break_even(trained):
    assert break_even(made(PLAIN, rows=ROWS), replace(COST, trained=trained)) is None
    assert break_even(made(PLAIN), COST) is None


def test_one_seed_says_nothing_of_random_rows_as_good():
    found = told(PLAIN, seeds=1, worth={**WORTH, "side": "above"})
    assert found["sentence"].endswith(NO_QUALITY)
