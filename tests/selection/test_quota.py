"""Quotas: read as typed, shared out exactly, nobody given more than there is."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.errors import UsageError
from pilotfish.selection.quota import Quota, apportion, parse_quota

GROUPS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), min_size=1, max_size=8)


def shared(weights: list[int], room: list[int], count: int) -> list[int]:
    return apportion([Fraction(w) for w in weights], np.array(room), count).tolist()


def test_shares_by_hand() -> None:
    assert shared([5, 3, 2], [50, 30, 20], 7) == [4, 2, 1]  # 3.5, 2.1, 1.4
    assert shared([1, 1, 1], [10, 10, 10], 10) == [4, 3, 3]  # the odd row goes to the first
    assert shared([1, 1, 1], [10, 2, 10], 11) == [5, 2, 4]  # one runs dry and frees its share
    assert shared([8, 1, 1], [4, 50, 50], 20) == [4, 8, 8]
    assert shared([1, 1], [2, 1], 9) == [2, 1]  # all there is
    assert shared([0, 1], [9, 9], 4) == [0, 4]


@given(GROUPS, st.integers(0, 200))
def test_every_row_is_given_out_and_none_twice(groups: list[tuple[int, int]], count: int) -> None:
    weights, room = [w for w, _ in groups], [r for _, r in groups]
    found = shared(weights, room, count)
    able = sum(r for w, r in groups if w)
    assert sum(found) == min(count, able)
    assert all(0 <= got <= (r if w else 0) for got, (w, r) in zip(found, groups, strict=True))


@given(GROUPS, st.integers(0, 200))
def test_a_group_with_room_left_has_its_share_of_the_others(
    groups: list[tuple[int, int]], count: int
) -> None:
    """The slow obvious law: among groups that did not run dry, rows per weight differ by a row."""
    found = shared([w for w, _ in groups], [r for _, r in groups], count)
    some = [(got, w) for got, (w, r) in zip(found, groups, strict=True) if w and got < r]
    for got, w in some:
        for other, v in some:
            assert got * v - other * w <= max(v, w) + min(v, w)


def test_a_larger_room_for_one_takes_from_the_others_alone() -> None:
    assert shared([1, 1, 1], [1, 9, 9], 9) == [1, 4, 4]
    assert shared([1, 1, 1], [2, 9, 9], 9) == [2, 4, 3]


def test_quotas_are_read_as_typed() -> None:
    assert parse_quota("source") == Quota("source")
    assert parse_quota(" topic:balanced ") == Quota("topic", "balanced")
    assert parse_quota("topic:web=1,a=b=2.5").weights == {"web": 1, "a=b": Fraction(5, 2)}
    for text in ("source", "topic:balanced", "topic:web=1,books=5/2"):
        again = parse_quota(parse_quota(text).text)
        assert again == parse_quota(text)


@pytest.mark.parametrize("text", ["", ":", "a:", ":balanced", "a:sideways", "a:b=", "a:b=-1",
                                  "a:b=0", "a:=1", "a:b=1,c", "a:b=nan", "a:b=1/0"])  # fmt: skip
def test_what_is_no_quota_is_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_quota(text)
    assert text.strip() in str(caught.value) and "COLUMN" in str(caught.value.hint)


def test_weights_name_groups_that_there_are() -> None:
    quota = parse_quota("topic:wbe=1")
    with pytest.raises(UsageError, match="did you mean 'web'"):
        quota.of(["books", "web"], np.array([3, 4]))
    assert parse_quota("topic:web=3").of(["books", "web"], np.array([3, 4])) == [0, 3]
    assert parse_quota("topic").of(["books", "web"], np.array([3, 4])) == [3, 4]
    assert parse_quota("topic:balanced").of(["books", "web"], np.array([3, 4])) == [1, 1]
