"""How many steps rows are worth, and in which order they come: pure functions, no torch.

A step's rows follow from seed, epoch and row alone, never from file order.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b

from pilotfish.config import TrainConfig
from pilotfish.records import Example


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


def warmup_length(warmup: float, steps: int) -> int:
    """Steps of warm-up: a share of `steps` below 1, else a number; always shorter than the run."""
    wanted = round(warmup * steps) if warmup < 1 else int(warmup)
    return min(wanted, steps - 1)


def shuffled(names: Sequence[str], *, seed: int, epoch: int) -> list[int]:
    """Positions of `names` in the order of this epoch: sorted by hash(seed, epoch, name).

    The same rows come in the same order whatever file or arm they stand in.
    """

    def key(position: int) -> bytes:
        text = f"{seed}\0{epoch}\0{names[position]}"
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    return sorted(range(len(names)), key=key)


def row_name(example: Example) -> str:
    """Id and content: what a row is called while it is learnt."""
    return f"{example.id}\0{example.digest}"
