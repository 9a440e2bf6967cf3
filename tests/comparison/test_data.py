"""The table of arms, and the join by item id."""

import numpy as np
import pytest

from pilotfish.comparison.data import ComparisonData, arm_table, matrices
from pilotfish.errors import DataError
from pilotfish.stats import mean
from tests.comparison.makers import arm, drawn


def listed(results, manifests=None):
    data = ComparisonData(results, "exact_match", True, trained=manifests or {})
    rows = arm_table(data)
    return {row["name"]: row for row in rows}


def test_matrices_join_by_id_never_by_position():
    results = {
        "a": {0: {"x": 1.0, "y": 0.0}},
        "b": {1: {"y": 5.0, "x": 6.0}, 0: {"x": 7.0, "y": 8.0}},
    }
    a, b = matrices(results, ["a", "b"])
    assert a.tolist() == [[1.0, 0.0]]
    assert b.tolist() == [[7.0, 8.0], [6.0, 5.0]]


def test_an_item_one_seed_lacks_is_refused():
    results = {"a": {0: {"x": 1.0, "y": 0.0}, 1: {"x": 1.0}}}
    with pytest.raises(DataError, match=r"a seed 1 was not evaluated on 1 of 2 items.*'y'"):
        matrices(results, ["a"])


def test_an_entry_holds_the_contract_and_the_interval():
    results = {"selected": drawn(0.7)}
    manifests = {("selected", s): {"rows": 30, "tokens": 100 + s, "steps": 7} for s in range(3)}
    row = listed(results, manifests)["selected"]
    values = np.array([list(v.values()) for v in results["selected"].values()])
    found = mean(values)
    assert (row["mean"], row["low"], row["high"]) == (found.value, found.low, found.high)
    assert (row["rows"], row["tokens"], row["steps"]) == (30, 101, 7)
    assert row["seeds"] == [0, 1, 2]
    assert (row["metric"], row["higher_is_better"]) == ("exact_match", True)


def test_untrained_arms_vary_over_items_and_a_lone_trained_seed_has_no_interval():
    rows = listed({"base": drawn(0.1, seeds=1), "random": drawn(0.5, seeds=1)})
    assert rows["base"]["low"] is not None
    assert rows["base"]["rows"] == 0
    assert rows["random"]["low"] is None
    assert rows["random"]["rows"] is None


def test_a_weak_model_tuned_per_seed_counts_its_seeds():
    spread = {"weak": {**arm([1.0] * 50), **{1: arm([0.0] * 50)[0]}}}
    row = listed(spread)["weak"]
    assert (row["low"], row["high"]) == (0.0, 1.0)  # two seeds that disagree know nothing


def test_an_arm_trained_and_not_yet_judged_is_listed_without_numbers():
    row = listed({}, {("full", 0): {"rows": 9, "tokens": 90, "steps": 3}})["full"]
    assert (row["mean"], row["items"], row["seeds"]) == (None, 0, [0])


def test_unscorable_items_are_counted():
    row = listed({"selected": arm([1, float("nan"), 0], [1, 1, 0])})["selected"]
    assert (row["mean"], row["items"], row["unscorable"]) == (0.5, 2, 1)


def test_arms_stand_in_the_order_of_the_house():
    names = ["zebra", "selected", "base", "trusted", "random", "alpha"]
    one = arm([0, 1])
    assert list(listed(dict.fromkeys(names, one))) == [
        "base", "random", "selected", "trusted", "alpha", "zebra",
    ]  # fmt: skip
