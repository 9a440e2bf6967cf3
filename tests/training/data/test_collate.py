"""Padding, masks and the shift by one."""

import numpy as np
import torch

from pilotfish.tokenization import Encoded
from pilotfish.training.data.collate import collate, supervised


def row(ids: list[int], target: list[int]) -> Encoded:
    return Encoded(
        ids=np.array(ids, dtype=np.int32),
        target=np.array(target, dtype=bool),
        n_prompt=len(target) - sum(target),
        n_response=sum(target),
        truncated=False,
        reason="",
    )


def test_a_target_is_read_one_position_earlier() -> None:
    batch = collate([row([5, 6, 7], [0, 1, 1]), row([8, 9], [0, 1])])
    assert batch.ids.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch.targets.tolist() == [6, 7, 9]
    assert batch.source.tolist() == [0, 1, 3]
    assert batch.ids.flatten()[batch.source].tolist() == [5, 6, 8]


def test_the_first_token_has_nothing_before_it() -> None:
    only = row([5, 6, 7], [1, 1, 1])
    assert supervised(only) == 2
    assert collate([only]).targets.tolist() == [6, 7]


def test_token_zero_is_a_token_and_not_padding() -> None:
    batch = collate([row([0, 0, 0], [0, 1, 1]), row([3], [0])])
    assert batch.mask is not None
    assert batch.mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.targets.tolist() == [0, 0]


def test_rows_of_one_length_need_no_mask() -> None:
    assert collate([row([1, 2], [0, 1]), row([3, 4], [0, 1])]).mask is None


def test_a_batch_moves_as_one() -> None:
    batch = collate([row([1, 2], [0, 1]), row([3], [0])]).to(torch.device("meta"))
    assert batch.mask is not None
    assert {batch.ids.device.type, batch.mask.device.type, batch.targets.device.type} == {"meta"}
