"""The order of rows and the number of steps."""

from collections import Counter

import pytest

from pilotfish.config import TrainConfig
from pilotfish.data_order import batches, micro_batches, plan_steps, shuffled

NAMES = [f"row {i}" for i in range(23)]


def test_an_epoch_holds_every_row_once() -> None:
    assert sorted(shuffled(NAMES, seed=0, epoch=0)) == list(range(23))


def test_the_order_hangs_on_rows_not_on_the_file() -> None:
    forward = [NAMES[i] for i in shuffled(NAMES, seed=5, epoch=2)]
    turned = NAMES[::-1]
    assert forward == [turned[i] for i in shuffled(turned, seed=5, epoch=2)]


def test_arms_that_share_rows_share_their_order() -> None:
    some = NAMES[3:17]
    order = [NAMES[i] for i in shuffled(NAMES, seed=1, epoch=0)]
    assert [some[i] for i in shuffled(some, seed=1, epoch=0)] == [n for n in order if n in some]


def test_seed_and_epoch_reshuffle() -> None:
    orders = {tuple(shuffled(NAMES, seed=s, epoch=e)) for s in range(3) for e in range(3)}
    assert len(orders) == 9


def test_steps_cycle_the_rows_evenly() -> None:
    steps = list(batches(NAMES, 4, 23, seed=0))
    assert [len(step) for step in steps] == [4] * 23
    assert set(Counter(row for step in steps for row in step).values()) == {4}


def test_few_rows_fill_large_batches() -> None:
    assert [Counter(step) for step in batches(["a", "b"], 6, 2, seed=0)] == [{0: 3, 1: 3}] * 2


@pytest.mark.parametrize(
    ("rows", "settings", "steps"),
    [
        (100, {}, 19),  # 3 x 100 / 16 = 18.75
        (96, {}, 18),
        (1, {}, 1),
        (100, {"num_train_epochs": 0.5}, 4),
        (100, {"gradient_accumulation_steps": 4}, 5),
        (100, {"max_steps": 7}, 7),
    ],
)
def test_steps_by_hand(rows: int, settings: dict[str, float], steps: int) -> None:
    assert plan_steps(rows, TrainConfig.model_validate(settings)) == steps


def test_more_ranks_take_fewer_steps() -> None:
    assert plan_steps(96, TrainConfig(), world=3) == 6


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_a_step_without_loss(world: int) -> None:
    lengths = [(7 * i) % 13 + 1 for i in range(23)]
    shares = [micro_batches(range(23), lengths, 4, rank=r, world=world) for r in range(world)]
    assert sorted(row for share in shares for part in share for row in part) == list(range(23))
    assert all(len(part) <= 4 for share in shares for part in share)


def test_rows_of_like_length_stand_together() -> None:
    parts = micro_batches([0, 1, 2, 3], [9, 2, 8, 1], 2)
    assert [sorted(part) for part in parts] == [[0, 2], [1, 3]]
