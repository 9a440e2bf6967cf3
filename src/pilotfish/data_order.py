"""How many steps rows are worth, and which rows make up which step: pure functions, no torch.

The rows of a step follow from seed, epoch and row alone, never from file order.
"""

import math
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import count, islice

from pilotfish.config import TrainConfig
from pilotfish.records import Example


def plan_steps(n_rows: int, config: TrainConfig, *, world: int = 1) -> int:
    """Return the optimizer steps for `n_rows` rows: `max_steps`, else the epochs' worth; >= 1.

    A comparison calls it once, for the selected rows; every other arm is then trained for the same
    number of steps, cycling its own rows.
    """
    if config.max_steps is not None:
        return config.max_steps
    return max(1, math.ceil(config.num_train_epochs * n_rows / rows_per_step(config, world=world)))


def rows_per_step(config: TrainConfig, *, world: int = 1) -> int:
    """Return the rows of one optimizer step, over all accumulation steps and `world` ranks."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps * world


def warmup_length(warmup: float, steps: int) -> int:
    """Return the steps of warm-up: a share of `steps` if below 1, else a number; below `steps`."""
    wanted = round(warmup * steps) if warmup < 1 else int(warmup)
    return min(wanted, steps - 1)


def row_name(example: Example) -> str:
    """Return the name of a row in training: its id and its content."""
    return f"{example.id}\0{example.digest}"


def shuffled(names: Sequence[str], *, seed: int, epoch: int) -> list[int]:
    """Return the positions of `names` in the order of an epoch: by hash(seed, epoch, name).

    The same rows come in the same order in every file and arm.
    """

    def key(position: int) -> bytes:
        text = f"{seed}\0{epoch}\0{names[position]}"
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    return sorted(range(len(names)), key=key)


def batches(names: Sequence[str], size: int, steps: int, *, seed: int) -> Iterator[list[int]]:
    """Yield the positions of the rows of each step; epochs follow one another without a gap.

    Args:
        names: Names of the rows, see `row_name`.
        size: Rows of a step.
        steps: Number of steps.
        seed: Of the order.
    """
    stream = (position for epoch in count() for position in shuffled(names, seed=seed, epoch=epoch))
    for _ in range(steps):
        yield list(islice(stream, size))


def micro_batches(
    rows: Sequence[int], lengths: Sequence[int], size: int, *, rank: int = 0, world: int = 1
) -> list[list[int]]:
    """Cut one rank's share of a step into micro-batches of rows of similar length.

    Rows are grouped by length inside a step only: the rows of the step, hence its gradient, do not
    change, only the padding does.

    Args:
        rows: Positions of the rows of the step.
        lengths: [n] tokens of every row, by position.
        size: Most rows of a micro-batch.
        rank: This process, from 0.
        world: Number of processes.
    """
    longest_first = sorted(rows, key=lambda row: -lengths[row])
    mine = longest_first[rank::world]
    return [mine[start : start + size] for start in range(0, len(mine), size)]
