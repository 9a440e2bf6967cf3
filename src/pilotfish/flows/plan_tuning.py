"""How much tuning the weak model takes at most: rates tried, steps, tokens learnt and read."""

import math
from dataclasses import dataclass

from pilotfish.config import TrainConfig, TuneConfig
from pilotfish.records import Ints


@dataclass(frozen=True)
class Course:
    """Every learning rate through every epoch. learnt, read: tokens, to learn and to judge by."""

    config: TrainConfig  # with the batches that few rows get
    rows: int
    steps: int
    learnt: float
    read: float


def course_of(tune: TuneConfig, lengths: Ints) -> Course:
    """Of trusted rows with so many tokens each."""
    from pilotfish.train.tune import EPOCHS, SHARES, for_few_rows

    settings = TrainConfig(**dict(tune))
    rows, rate = len(lengths), settings.learning_rate
    held = max(1, rows // 5)
    rates = len(set(rate)) if isinstance(rate, list) else len(SHARES) if rate is None else 1
    config = for_few_rows(settings, rows - held)
    size, mean = config.per_device_train_batch_size, float(lengths.mean())
    steps = rates * EPOCHS * math.ceil((rows - held) / size)
    return Course(config, rows, steps, steps * size * mean, rates * (EPOCHS + 1) * held * mean)
