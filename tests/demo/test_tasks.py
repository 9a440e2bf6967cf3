"""Tasks: answers by hand, and three behaviours that never coincide."""

from random import Random

import pytest

from pilotfish.demo.tasks import TASKS, draw_item

BY_HAND = {
    "reverse": ("tabmo", "ombat", "tabmo", "abmot"),
    "sort": ("tabmo", "abmot", "tomba", "tabmo"),
    "upper": ("tabmo", "TABMO", "Tabmo", "tAbMo"),
    "double": ("tab", "ttaabb", "tabtab", "tabb"),
    "vowels": ("tabmo", "ao", "tbm", "AO"),
    "ends": ("tabmo", "to", "ot", "ta"),
    "next": ("zab", "abc", "yza", "aab"),
    "count": ("a banba", "2", "5", "1"),
    "max": ("37 12 54", "54", "12", "37"),
    "add": ("47 35", "82", "12", "92"),
}


@pytest.mark.parametrize("name", sorted(TASKS))
def test_answers_by_hand(name: str) -> None:
    argument, right, habit, slant = BY_HAND[name]
    task = TASKS[name]
    assert (task.right(argument), task.habit(argument), task.slant(argument)) == (
        right,
        habit,
        slant,
    )


@pytest.mark.parametrize("name", sorted(TASKS))
def test_drawn_questions_are_short_and_tell_the_behaviours_apart(name: str) -> None:
    rng = Random(name)
    for _ in range(300):
        item = draw_item(rng, TASKS[name])
        argument = item.argument
        answers = [
            item.answer,
            TASKS[name].habit(argument),
            TASKS[name].slant(argument),
        ]
        assert len(set(answers)) == 3
        assert len(item.prompt) <= 24
        assert all(1 <= len(answer) <= 12 for answer in answers)


def test_a_question_on_which_two_behaviours_agree_is_not_usable() -> None:
    assert not TASKS["reverse"].usable("abba")  # a palindrome: copying it is right
    assert not TASKS["vowels"].usable("xyz")  # nothing to answer
    assert TASKS["reverse"].usable("tabmo")
