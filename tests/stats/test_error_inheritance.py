"""Error inheritance by hand, without a ceiling, with missing answers; and its alarm."""

import numpy as np
import pytest

from pilotfish.stats import inheritance


def words(text):
    return np.array([None if char == "-" else char for char in text], dtype=object)


def test_by_hand():
    gold = words("aaaaaaaa")
    weak = words("aaaabbbb")
    student = words("aaababac")  # agrees on 3 of 4 right, 1 of 4 wrong; is wrong on 2 there
    ceiling = words("aaaaabaa")  # wrong on 1 of 4
    found = inheritance(student, weak, gold, ceiling=ceiling)
    student_wrong, ceiling_wrong = 2 / 4, 1 / 4
    assert (found.weak_right, found.weak_wrong) == (3 / 4, 1 / 4)
    assert found.wrong_given_weak_wrong == student_wrong
    assert found.ceiling_wrong_given_weak_wrong == ceiling_wrong
    assert found.excess == student_wrong - ceiling_wrong
    assert (found.right, found.wrong) == (4, 4)


def test_without_a_ceiling_there_is_no_excess():
    found = inheritance(words("ab"), words("ab"), words("aa"))
    assert found.excess is None and found.ceiling_wrong_given_weak_wrong is None
    assert found.weak_wrong == 1.0


def test_no_row_of_a_kind_is_none_and_not_zero():
    found = inheritance(words("aa"), words("aa"), words("aa"), ceiling=words("aa"))
    assert found.weak_right == 1.0
    assert found.weak_wrong is None and found.excess is None and found.alarm == ""


def test_missing_answers_leave_the_row_out():
    found = inheritance(words("a-bb"), words("abb-"), words("aaaa"), ceiling=words("aaaa"))
    assert (found.right, found.wrong) == (1, 1) and found.excess == 1.0


def test_order_is_free():
    rng = np.random.default_rng(0)
    columns = [np.array(list(rng.choice(list("abc"), 60)), dtype=object) for _ in range(4)]
    order = rng.permutation(60)
    one = inheritance(*columns[:3], ceiling=columns[3])
    assert one == inheritance(*(c[order] for c in columns[:3]), ceiling=columns[3][order])


@pytest.mark.parametrize(("repeated", "alarms"), [(20, True), (10, True), (9, False), (0, False)])
def test_alarm_where_half_of_the_mistakes_are_inherited(repeated, alarms):
    gold, weak = words("a" * 40), words("a" * 20 + "b" * 20)
    student = words("a" * 20 + "b" * repeated + "a" * (20 - repeated))
    found = inheritance(student, weak, gold, ceiling=gold)
    assert bool(found.alarm) == alarms
    if alarms:
        assert found.alarm.startswith("student too close to weak")


def test_alarm_is_silent_on_a_handful_of_mistakes_and_on_hard_rows():
    gold, weak = words("a" * 9), words("b" * 9)
    assert inheritance(weak, weak, gold, ceiling=gold).alarm == ""
    gold, weak = words("a" * 30), words("b" * 30)  # the ceiling fails there too: hard, not taught
    assert inheritance(weak, weak, gold, ceiling=weak).alarm == ""


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="one length"):
        inheritance(words("a"), words("ab"), words("ab"))
