"""Arms of other budgets in words, and the order in which reports list them."""

import pytest

from pilotfish.comparison.arm_names import arm_in_words, in_order, parse_arm_name
from pilotfish.comparison.contrast import number
from pilotfish.comparison.secondary import matched_table
from tests.comparison.cases import made


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("selected", "selected rows"),
        ("selected@5pct", "selected rows at 5%"),
        ("random@2Mtokens", "an equal number of random rows at 2Mtokens"),
        ("full@epochs", "all rows (equal epochs)"),
        ("selected@5pct@epochs", "selected rows at 5% (equal epochs)"),
        ("mine", "the arm mine"),
        ("mine@5pct", "the arm mine@5pct"),
    ],
)
def test_an_arm_in_words(arm, said):
    assert arm_in_words(arm) == said


def test_budgets_stand_in_the_order_of_their_size():
    right = ["base", "random", "random@5pct", "random@10pct", "random@0.5pct@epochs", "selected",
             "selected@2.5pct", "selected@30pct", "selected@100rows", "selected@2000rows",
             "selected@5pct@epochs", "ifd", "ifd@5pct", "run/selected"]  # fmt: skip
    assert in_order(sorted(right)) == right == in_order(reversed(right))


def test_a_name_that_no_recipe_makes_is_listed_all_the_same():
    odd = ["a@", "a@.", "a@best", "a@5pct@epochs@x", "@", "@@epochs"]
    assert sorted(in_order(odd)) == sorted(odd)
    assert parse_arm_name("a@best").name == "a@best"


SHARES = {"better": 0.8, "worse": 0.4, "undecided": 0.62}


@pytest.mark.parametrize(("outcome", "share"), SHARES.items())
def test_what_is_held_equal_is_said_whatever_came_out(outcome, share):
    small = {"items": 100, "spread": 0.04} if outcome == "undecided" else {"items": 2000}
    case = made({"selected": share, "random": 0.6, "random_tokens": 0.6}, **small)
    told = {one["what"]: one for one in matched_table(case)}
    assert told["tokens"]["outcome"] == outcome
    assert told["tokens"]["sentence"].startswith("Equal tokens: ")
    assert ("beat" in told["tokens"]["sentence"]) == (outcome != "undecided")


def test_two_seeds_are_an_indication_in_every_line():
    told = matched_table(made({"selected": 0.8, "random": 0.6, "random_compute": 0.6}, seeds=2))
    assert [one["what"] for one in told] == ["steps", "compute"]
    assert {(one["outcome"], one["p_holm"]) for one in told} == {("not_tested", None)}
    assert all("only an indication" in one["sentence"] for one in told)
    assert matched_table(made({"random": 0.6})) == []


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [
        (0.0, "0.000", "+0.000"),
        (-0.0123, "-0.012", "-0.012"),
        (0.00004, "4e-05", "+4e-05"),
        (1234.5678, "1,234.568", "+1,234.568"),
        (-2250958.747, "-2,250,959", "-2,250,959"),
    ],
)
def test_large_numbers_in_sentences_are_grouped(value, plain, signed):
    """A hyphen for the minus: sentences go to terminals of any encoding."""
    assert number(value) == plain
    assert number(value, "+") == signed
