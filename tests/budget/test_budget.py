"""Budgets: what may be typed, exact arithmetic, and a prefix that is delivered or refused."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.budget import Budget, parse_budget, resolve, take
from pilotfish.errors import UsageError


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("10%", "percent", "10"),
        ("0.5 %", "percent", "0.5"),
        ("100%", "percent", "100"),
        ("500rows", "rows", "500"),
        (" 500 rows ", "rows", "500"),
        ("1row", "rows", "1"),
        ("52_002rows", "rows", "52002"),
        ("1.5krows", "rows", "1500"),
        ("2Mtokens", "tokens", "2000000"),
        ("2m tokens", "tokens", "2000000"),
        ("1.5k tokens", "tokens", "1500"),
        ("1Btokens", "tokens", "1000000000"),
    ],
)
def test_what_may_be_typed(text: str, kind: str, amount: str) -> None:
    budget = parse_budget(text)
    assert (budget.kind, budget.amount) == (kind, Decimal(amount))
    assert parse_budget(budget.text) == budget


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("500", "cannot read"),
        ("0.1", "cannot read"),
        ("", "cannot read"),
        ("ten%", "cannot read"),
        ("10k%", "cannot read"),
        ("5 Grows", "cannot read"),
        ("0rows", "not above zero"),
        ("0%", "not above zero"),
        ("-5%", "not above zero"),
        ("-1rows", "not above zero"),
        ("101%", "more than the whole pool"),
        ("100.01%", "more than the whole pool"),
        ("2.5rows", "not a whole number of rows"),
        ("0.0001ktokens", "not a whole number of tokens"),
    ],
)
def test_what_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        parse_budget(text)
    assert caught.value.exit_code == 2 and "500rows" in str(caught.value.hint)


def test_percent_is_floored_in_decimal_arithmetic() -> None:
    assert int(0.29 * 100) == 28  # what binary floats make of it
    assert resolve(parse_budget("29%"), 100) == 29
    assert resolve(parse_budget("0.29%"), 10_000) == 29
    assert resolve(parse_budget("10%"), 19) == 1
    assert resolve(parse_budget("33.3%"), 1000) == 333


@given(st.integers(1, 10_000), st.integers(0, 5_000_000))
def test_percent_agrees_with_fractions(hundredths: int, n_pool: int) -> None:
    budget = parse_budget(f"{Decimal(hundredths) / 100:f}%")
    assert resolve(budget, n_pool) == Fraction(hundredths, 10_000) * n_pool // 1


ORDER = np.array([4, 2, 0, 1])


def test_rows_are_the_prefix_asked_for() -> None:
    assert take(ORDER, parse_budget("3rows"), 5).tolist() == [4, 2, 0]
    assert take(ORDER, parse_budget("80%"), 5).tolist() == [4, 2, 0, 1]


def test_a_budget_beyond_the_ranking_names_both_numbers_or_takes_what_there_is() -> None:
    with pytest.raises(UsageError, match="budget is 5 rows but of 5 pool rows 4") as caught:
        take(ORDER, parse_budget("100%"), 5)
    assert caught.value.exit_code == 2 and "--allow-short" in str(caught.value.hint)
    assert take(ORDER, parse_budget("100%"), 5, allow_short=True).tolist() == ORDER.tolist()


def test_nothing_is_never_a_selection() -> None:
    with pytest.raises(UsageError, match="10% of 5 pool rows is 0 rows"):
        take(ORDER, parse_budget("10%"), 5, allow_short=True)
    with pytest.raises(UsageError, match="budget is 2 rows but of 5 pool rows 0"):
        take(ORDER[:0], parse_budget("2rows"), 5, allow_short=True)


TOKENS = np.array([10, 20, 5, 99, 7])


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [(7, [4]), (11, [4]), (12, [4, 2]), (21, [4, 2]), (22, [4, 2, 0]), (42, [4, 2, 0, 1])],
)
def test_tokens_end_at_the_last_row_that_fits(tokens: int, kept: list[int]) -> None:
    budget = parse_budget(f"{tokens}tokens")
    assert take(ORDER, budget, 5, tokens=TOKENS).tolist() == kept


def test_a_row_that_does_not_fit_is_not_skipped_for_a_shorter_one() -> None:
    order, tokens = np.array([0, 1, 2]), np.array([5, 50, 1])
    assert take(order, parse_budget("10tokens"), 3, tokens=tokens).tolist() == [0]


def test_token_budgets_that_cannot_be_met() -> None:
    with pytest.raises(UsageError, match="43 tokens but the 4 eligible rows hold 42"):
        take(ORDER, parse_budget("43tokens"), 5, tokens=TOKENS)
    short = take(ORDER, parse_budget("43tokens"), 5, tokens=TOKENS, allow_short=True)
    assert short.tolist() == ORDER.tolist()
    with pytest.raises(UsageError, match="6 tokens but the best row alone has 7"):
        take(ORDER, parse_budget("6tokens"), 5, tokens=TOKENS)
    with pytest.raises(UsageError, match="needs the token counts"):
        take(ORDER, parse_budget("6tokens"), 5)
    with pytest.raises(UsageError, match="0 eligible rows hold 0"):
        take(ORDER[:0], parse_budget("6tokens"), 5, tokens=TOKENS, allow_short=True)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 100))
def test_tokens_agree_with_a_loop_and_nest(lengths: list[int], wanted: int) -> None:
    tokens, order = np.array(lengths), np.arange(len(lengths))[::-1]
    kept: list[int] = []
    for index in order:
        if sum(lengths[i] for i in kept) + lengths[index] > wanted:
            break
        kept.append(int(index))
    budget = Budget("tokens", Decimal(wanted))
    if not kept:
        with pytest.raises(UsageError):
            take(order, budget, len(lengths), tokens=tokens, allow_short=True)
    else:
        found = take(order, budget, len(lengths), tokens=tokens, allow_short=True)
        assert found.tolist() == kept
