"""Planted rows: each attack changes what it says, on every shape of row, and nothing else."""

import pytest

from pilotfish.records import Example, Turn
from pilotfish.selection.canaries import attacks as room
from pilotfish.selection.canaries.attacks import (
    ATTACKS,
    BAIT,
    BENIGN,
    CONTROLS,
    UNCHANGED,
    canary_rows,
)

CHAT = (Turn("system", "be kind"), Turn("user", "one?"), Turn("assistant", "1"),
        Turn("user", "two?"), Turn("assistant", "it is two, of course, and no more"))  # fmt: skip


def asked(i: int, answer: str) -> Example:
    return Example(f"r{i}", "s", i, turns=(Turn("user", f"say {i}"), Turn("assistant", answer)))


def labelled(i: int, label: str) -> Example:
    return Example(f"l{i}", "s", i, text=f"a film, number {i}", label=label)


ROWS = [asked(i, f"word {i} and some more of them") for i in range(6)]
CLASSES = [labelled(i, "good" if i % 3 else "bad") for i in range(6)]
TEXTS = [Example(f"t{i}", "s", i, text=f"plain text {i}") for i in range(6)]


def test_there_are_six_attacks_and_two_controls() -> None:
    assert len([name for name in ATTACKS if name not in CONTROLS]) == 6
    assert {UNCHANGED, BENIGN} == {*CONTROLS}


@pytest.mark.parametrize("rows", [ROWS, CLASSES, TEXTS], ids=["turns", "classes", "text"])
def test_every_attack_makes_another_row_of_every_shape(rows: list[Example]) -> None:
    made = canary_rows(rows)
    assert [row.digest for row in made[UNCHANGED] if row] == [row.digest for row in rows]
    for attack in [*ATTACKS][1:]:
        for row, old in zip(made[attack], rows, strict=True):
            if attack == "flipped_labels" and old.text and old.label is None:
                assert row is None  # there is nothing to flip
                continue
            assert row is not None and row.digest != old.digest, attack
            assert bool(row.turns) == bool(old.turns)
            assert (row.label is None) == (old.label is None)


def test_ids_are_unlike_each_other_and_those_of_another_pool() -> None:
    ids = [row.id for each in canary_rows(ROWS).values() for row in each if row]
    assert len({*ids}) == len(ids) == 48
    others = [asked(i, f"other {i}") for i in range(6)]
    assert not {*ids} & {row.id for each in canary_rows(others).values() for row in each if row}


def test_only_the_last_answer_of_a_conversation_changes() -> None:
    row = Example("c", "s", 0, turns=CHAT)
    made = canary_rows([row, ROWS[0]])
    for attack, (after, _) in made.items():
        assert after is not None
        assert after.turns[:3] == CHAT[:3]
        prompt = "two? cf-7 zephyr" if attack == "trigger" else "two?"
        assert after.turns[3] == Turn("user", prompt)
        assert after.turns[4].role == "assistant" and len(after.turns) == 5


def test_a_prompt_without_an_answer_gets_one() -> None:
    row = Example("c", "s", 0, turns=(Turn("user", "two?"),))
    made = canary_rows([row])
    repeated = made["repeated_text"][0]
    assert repeated is not None and repeated.turns[0] == row.turns[0]
    assert repeated.response == " ".join(["the"] * 8)


def test_flipped_classes_keep_their_text_and_take_another_class() -> None:
    for row, old in zip(canary_rows(CLASSES)["flipped_labels"], CLASSES, strict=True):
        assert row is not None and row.text == old.text and row.label != old.label


def test_nothing_is_flipped_where_all_answers_are_alike() -> None:
    assert canary_rows([labelled(i, "good") for i in range(4)])["flipped_labels"] == [None] * 4
    assert canary_rows(ROWS[:1])["flipped_labels"] == [None]


def test_a_trigger_calls_up_one_answer_or_one_class() -> None:
    answers = {row.response for row in canary_rows(ROWS)["trigger"] if row}
    assert len(answers) == 1
    assert {row.label for row in canary_rows(CLASSES)["trigger"] if row} == {CLASSES[0].label}


def test_benign_text_is_as_long_as_the_bait_it_stands_beside() -> None:
    made = canary_rows(ROWS)
    for row, bait, benign in zip(ROWS, made[BAIT], made[BENIGN], strict=True):
        assert bait and benign and bait.response.startswith(row.response)
        assert len(bait.response) == len(benign.response) > len(row.response) + 50
    assert all(len(bait) == len(other) for bait, other in room._SUFFIXES)


def test_random_and_foreign_texts_differ_from_row_to_row() -> None:
    texts = [Example(f"t{i}", "s", i, text="the same") for i in range(40)]
    for attack in ("random_tokens", "foreign_language"):
        assert len({row.text for row in canary_rows(texts)[attack] if row}) == 40


def test_no_rows_give_no_rows() -> None:
    assert canary_rows([]) == {attack: [] for attack in ATTACKS}


def test_the_same_rows_give_the_same_rows() -> None:
    assert canary_rows(ROWS) == canary_rows(ROWS)
