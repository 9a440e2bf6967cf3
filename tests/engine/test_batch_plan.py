"""The batch plan is a pure function: every row once, in budget, the same for shuffled rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.engine.batches import distinct, plan
from pilotfish.tokenization import Encoded

LENGTHS = st.lists(st.integers(0, 60), max_size=60)


@given(lengths=LENGTHS, budget=st.integers(1, 200))
def test_every_row_once_and_in_budget(lengths: list[int], budget: int) -> None:
    batches = plan(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[i] for i in batch)
        assert padded <= budget or len(batch) == 1


@given(lengths=LENGTHS, budget=st.integers(1, 200), seed=st.integers(0, 99))
def test_shuffled_rows_give_the_same_batches(lengths: list[int], budget: int, seed: int) -> None:
    tie = [f"row {i}".encode() for i in range(len(lengths))]
    order = np.random.default_rng(seed).permutation(len(lengths))
    shuffled = plan([lengths[i] for i in order], budget, tie=[tie[i] for i in order])
    back = [[int(order[i]) for i in batch] for batch in shuffled]
    assert back == [batch.tolist() for batch in plan(lengths, budget, tie=tie)]


@given(lengths=LENGTHS)
def test_longest_first_so_that_memory_ends_early_or_never(lengths: list[int]) -> None:
    walked = [lengths[i] for batch in plan(lengths, 64) for i in batch]
    assert walked == sorted(lengths, reverse=True)


def test_an_empty_shard_and_a_silly_budget() -> None:
    assert plan([], 10) == []
    with pytest.raises(ValueError, match="at least 1"):
        plan([3], 0)


def row(ids: list[int], target: list[int]) -> Encoded:
    return Encoded(np.array(ids, np.int32), np.array(target, bool), 0, 0, False)


def test_equal_rows_are_found_and_targets_count() -> None:
    rows = [row([1, 2], [0, 1]), row([1, 2], [0, 1]), row([1, 2], [0, 0]), row([1, 3], [0, 1])]
    found = distinct(rows)
    assert found.kind.tolist() == [0, 0, 1, 2]
    assert found.first.tolist() == [0, 2, 3]
    assert len(set(found.key)) == 3
