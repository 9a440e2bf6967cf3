"""Task by task with Holm, and the mean over tasks that weighs each alike."""

from dataclasses import replace

import pytest

from pilotfish.comparison.secondary import macro, tasks
from pilotfish.stats import holm
from tests.comparison.cases import made

CASE = made({"selected": 0.75, "random": 0.6}, items=1000, spread=0.01)
BY_TASK = replace(
    CASE, tasks={i: "sum" if at < 200 else "sort" for at, i in enumerate(CASE.items())}
)


def test_each_task_is_the_comparison_on_its_own_items():
    told = tasks(BY_TASK, "selected", "random")
    assert [(one["task"], one["items"]) for one in told] == [("sort", 800), ("sum", 200)]
    for one in told:
        ids = {i for i, task in BY_TASK.tasks.items() if task == one["task"]}
        alone = BY_TASK.among(ids).contrast("selected", "random").estimate
        assert (one["difference"], one["low"], one["p"]) == (alone.value, alone.low, alone.p)
    assert [one["p_holm"] for one in told] == holm([one["p"] for one in told])


def test_every_task_counts_alike():
    told = tasks(BY_TASK, "selected", "random")
    found = macro(BY_TASK, "selected", "random")
    assert found and found["low"] < found["difference"] < found["high"]
    assert found["difference"] == pytest.approx(sum(one["difference"] for one in told) / 2)
    plain = CASE.contrast("selected", "random").estimate.value
    assert plain == pytest.approx(
        (800 * told[0]["difference"] + 200 * told[1]["difference"]) / 1000
    )


def test_a_better_task_needs_holm_s_p_too():
    """Twelve tasks, and one of them with a p that suffices alone: it does not among twelve."""
    ids = CASE.items()
    names = {i: f"task{at % 12:02}" for at, i in enumerate(ids)}
    near = made({"selected": 0.64, "random": 0.6}, items=1000, spread=0.01)
    told = tasks(replace(near, tasks=names), "selected", "random")
    lost = [one for one in told if one["p"] < 0.05 <= one["p_holm"]]
    assert lost and all(one["outcome"] == "undecided" for one in lost)
    won = tasks(replace(made({"selected": 0.95, "random": 0.3}, items=1000), tasks=names),
                "selected", "random")  # fmt: skip
    assert {one["outcome"] for one in won} == {"better"}


def test_worse_where_less_is_better():
    loss = replace(BY_TASK, higher_is_better=False)
    assert {one["outcome"] for one in tasks(loss, "selected", "random")} == {"worse"}


def test_one_seed_is_an_indication_outside_the_correction():
    one = made({"selected": 0.75, "random": 0.6}, seeds=1)
    case = replace(one, tasks={i: "ab"[at % 2] for at, i in enumerate(one.items())})
    told = tasks(case, "selected", "random")
    assert {(each["outcome"], each["low"], each["p_holm"]) for each in told} == {
        ("not_tested", None, None)
    }
    found = macro(case, "selected", "random")
    assert found and found["difference"] > 0 and found["low"] is None


def test_one_task_or_none_or_a_missing_arm_has_no_table():
    assert tasks(CASE, "selected", "random") == [] and macro(CASE, "selected", "random") is None
    one = replace(CASE, tasks=dict.fromkeys(CASE.items(), "sum"))
    assert tasks(one, "selected", "random") == [] and macro(one, "selected", "random") is None
    assert tasks(BY_TASK, "selected", "full") == [] and macro(BY_TASK, "selected", "full") is None
