"""Exact bounds against numbers known by hand and against sums over every outcome."""

import math

import pytest

from pilotfish.scoring.audit.bounds import (
    hypergeometric,
    lower_rate,
    most_drawn,
    most_marked,
    upper_rate,
)


def test_nothing_found_has_the_closed_form() -> None:
    assert upper_rate(0, 3_000) == pytest.approx(1 - 0.05 ** (1 / 3_000), rel=1e-9)
    assert upper_rate(0, 3_000) == pytest.approx(0.001, rel=0.01)


def test_the_bound_is_the_share_at_which_so_few_would_be_rare() -> None:
    share = upper_rate(3, 50, 0.95)
    tail = sum(math.comb(50, i) * share**i * (1 - share) ** (50 - i) for i in range(4))
    assert tail == pytest.approx(0.05, rel=1e-9)
    assert lower_rate(47, 50, 0.95) == pytest.approx(1 - share, rel=1e-12)


@pytest.mark.parametrize(("found", "drawn", "bound"), [(0, 0, 1.0), (5, 5, 1.0), (0, 1, 0.95)])
def test_the_ends(found: int, drawn: int, bound: float) -> None:
    assert upper_rate(found, drawn) == pytest.approx(bound)


@pytest.mark.parametrize("wrong", [(3, 2, 0.95), (-1, 2, 0.95), (0, 2, 1.0)])
def test_what_cannot_be_is_refused(wrong: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match=r"cannot have|strictly inside"):
        upper_rate(*wrong)


def test_hypergeometric_against_counting() -> None:
    ways = math.comb(10, 4)
    for x in range(5):
        slow = sum(math.comb(3, i) * math.comb(7, 4 - i) for i in range(min(x, 3) + 1)) / ways
        assert hypergeometric(x, 10, 3, 4) == pytest.approx(slow, rel=1e-12)
    assert hypergeometric(0, 10, 8, 4) == 0.0  # at least two of the eight must show


def test_hypergeometric_of_an_empty_pool_is_certain_and_of_a_huge_one_keeps_its_digits() -> None:
    assert hypergeometric(0, 0, 0, 0) == hypergeometric(3, 5, 3, 5) == 1.0
    # none of 10 marked among 1,000 of a hundred million: a product of ten factors
    none = math.prod((10**8 - 1_000 - i) / (10**8 - i) for i in range(10))
    assert hypergeometric(0, 10**8, 10, 1_000) == pytest.approx(none, rel=1e-9)


def test_huge_samples_keep_the_closed_form() -> None:
    assert upper_rate(0, 10**9) == pytest.approx(-math.log(0.05) / 1e9, rel=1e-8)


@pytest.mark.parametrize(("n", "drawn"), [(40, 10), (40, 40), (200, 30)])
def test_most_marked_is_the_last_possible_count(n: int, drawn: int) -> None:
    for found in (0, 1, 5):
        most = most_marked(found, drawn, n, 0.9)
        possible = [
            marked
            for marked in range(found, n - drawn + found + 1)
            if hypergeometric(found, n, marked, drawn) > 0.1
        ]
        assert most == max(possible)
    assert most_marked(3, n, n, 0.9) == 3


def test_most_drawn_is_the_quantile() -> None:
    j = most_drawn(1_000, 100, 200, 0.99)
    assert hypergeometric(j, 1_000, 100, 200) >= 0.99 > hypergeometric(j - 1, 1_000, 100, 200)
