"""The parts of a weak-to-strong experiment share no question, whatever the order of the rows."""

import random
from typing import Any

import pytest

from pilotfish.config import WeakToStrong, make_weak_to_strong
from pilotfish.data import overlap_keys
from pilotfish.errors import DataError, UsageError
from pilotfish.records import Example, Turn
from pilotfish.weak_to_strong.split import PARTS, Split, check_apart, split
from pilotfish.weak_to_strong.tasks import ClassificationTask, GenerationTask, task_of


def recipe(**changes: Any) -> WeakToStrong:
    sizes = {"validation_rows": 5, "test_rows": 10}
    return make_weak_to_strong({"data": "d", "weak": "w", "strong": "s", **sizes, **changes})


def row(i: int, text: str = "", label: str = "") -> Example:
    return Example(f"r{i}", "d", i, text=text or f"text {i}", label=label or f"{i % 2}")


ROWS = [row(i) for i in range(60)]


def ids(made: Split) -> dict[str, list[str]]:
    return {part: [one.id for one in getattr(made, part)] for part in PARTS}


def test_parts_are_disjoint_and_have_the_sizes_asked_for() -> None:
    made = split(ROWS, [], recipe(weak_rows=12, rows=20))
    assert [len(getattr(made, part)) for part in PARTS] == [10, 5, 12, 20]
    keys = [overlap_keys(getattr(made, part)) for part in PARTS]
    assert sum(map(len, keys)) == len(frozenset().union(*keys)) == 47


def test_without_sizes_the_two_halves_share_what_is_left() -> None:
    made = split(ROWS, [], recipe())
    assert (len(made.weak), len(made.student)) == (22, 23)


def test_the_order_of_the_rows_changes_nothing_and_the_seed_changes_all() -> None:
    shuffled = random.Random(1).sample(ROWS, len(ROWS))
    assert ids(split(ROWS, [], recipe())) == ids(split(shuffled, [], recipe()))
    assert ids(split(ROWS, [], recipe())) != ids(split(ROWS, [], recipe(seed=1)))


def test_more_student_rows_leave_the_parts_before_them_as_they_were() -> None:
    small = split(ROWS, [], recipe(weak_rows=12, rows=10))
    large = split(ROWS, [], recipe(weak_rows=12, rows=30))
    assert small.weak == large.weak and small.test == large.test
    assert {one.id for one in small.student} < {one.id for one in large.student}


def test_of_rows_that_ask_the_same_one_stays_and_the_others_are_counted() -> None:
    again = [row(100 + i, text=f"  TEXT {i}", label="1") for i in range(10)]
    made = split([*ROWS, *again], [], recipe())
    assert made.repeated == 10
    assert sum(len(getattr(made, part)) for part in PARTS) == 60


def test_given_test_rows_are_judged_at_most_test_rows_many() -> None:
    given = [row(200 + i) for i in range(30)]
    made = split(ROWS, given, recipe(weak_rows=20, rows=30))
    assert len(made.test) == 10 and {one.id for one in made.test} <= {one.id for one in given}


def test_a_curve_is_drawn_from_a_sample_of_the_test_rows() -> None:
    test = [row(i) for i in range(1000)]
    assert Split(test, [], [], []).curve_rows == test[:200]


def test_too_few_rows_are_refused_with_all_the_numbers() -> None:
    with pytest.raises(UsageError, match=r"60 different rows .* 10 of test, 5 .* 40 .* 30"):
        split(ROWS, [], recipe(weak_rows=40, rows=30))


def test_a_question_in_two_parts_is_never_let_through() -> None:
    with pytest.raises(DataError, match="1 questions of the student part"):
        check_apart([[row(1)], [row(2)], [row(3)], [row(4, text="Text  1")]])


def test_the_kind_of_task_follows_from_the_rows() -> None:
    made = task_of(ROWS[:20], ROWS[20:], 64)
    assert isinstance(made, ClassificationTask) and made.classes == ("0", "1")
    prompts = [
        Example(f"q{i}", "d", i, turns=(Turn("user", f"q{i}"), Turn("assistant", f"a{i}")))
        for i in range(4)
    ]
    assert isinstance(task_of(prompts[:2], prompts[2:], 64), GenerationTask)
    with pytest.raises(UsageError, match="neither, or both"):
        task_of(prompts, ROWS, 64)


def test_a_class_that_the_weak_model_cannot_learn_is_refused() -> None:
    with pytest.raises(DataError, match="labelled rare"):
        task_of(ROWS, [row(1, label="rare")], 64)
    with pytest.raises(DataError, match="same label"):
        task_of([row(i, label="x") for i in range(4)], [], 64)
