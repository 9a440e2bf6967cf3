"""Which rows make up which step: a pure function of seed, epoch and row, never of file order."""

import math
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import count, islice

from pilotfish.config import TrainConfig


def plan_steps(n_rows: int, config: TrainConfig, *, world: int = 1) -> int:
    """Optimizer steps for `n_rows` rows: `max_steps`, else the epochs' worth; at least 1.

    In a comparison it is called once, for the selected rows; every other arm is then trained for
    the same number of steps, cycling its own rows.
    """
    if config.max_steps is not None:
        return config.max_steps
    return max(1, math.ceil(config.num_train_epochs * n_rows / rows_per_step(config, world=world)))


def rows_per_step(config: TrainConfig, *, world: int = 1) -> int:
    """Rows behind one optimizer step, over all accumulation steps and ranks."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps * world


def shuffled(names: Sequence[str], *, seed: int, epoch: int) -> list[int]:
    """Positions of `names` in the order of this epoch: sorted by hash(seed, epoch, name).

    The same rows come in the same order whatever file or arm they stand in.
    """

    def key(position: int) -> bytes:
        text = f"{seed}\0{epoch}\0{names[position]}"
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    return sorted(range(len(names)), key=key)


def batches(names: Sequence[str], size: int, steps: int, *, seed: int) -> Iterator[list[int]]:
    """`steps` lists of `size` positions; epochs follow one another without a gap."""
    stream = (position for epoch in count() for position in shuffled(names, seed=seed, epoch=epoch))
    for _ in range(steps):
        yield list(islice(stream, size))


def micro_batches(
    rows: Sequence[int], lengths: Sequence[int], size: int, *, rank: int = 0, world: int = 1
) -> list[list[int]]:
    """One rank's share of a step, cut into micro-batches of at most `size` rows of like length.

    Grouping by length stays inside the step: the step's rows, hence its gradient, do not change,
    only the padding does.
    """
    longest_first = sorted(rows, key=lambda row: -lengths[row])
    mine = longest_first[rank::world]
    return [mine[start : start + size] for start in range(0, len(mine), size)]
