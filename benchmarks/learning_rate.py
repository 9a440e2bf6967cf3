"""Which one learning rate should all arms of the demo share? Asked on another world.

    python benchmarks/learning_rate.py        # about a minute on one core

The world has another seed than the demo's, and the judge is the response loss on held-out trusted
rows, never a test row. Prints JSON: rate -> nats per token, for random rows, trusted rows alone,
and the rows that are right (which no method knows).
"""

import json
import tempfile
from pathlib import Path
from random import Random

from pilotfish.config import TrainConfig
from pilotfish.config.data import Source
from pilotfish.data import read_rows
from pilotfish.demo.build import build
from pilotfish.demo.models import WINDOW, shipped
from pilotfish.demo.world import DEMO
from pilotfish.engine.likelihood import response_nll
from pilotfish.models import load, set_threads
from pilotfish.records import Example
from pilotfish.training.trainer import train

SEED = 100
RATES = (1e-4, 3e-4, 6e-4, 1e-3)


def main() -> None:
    set_threads(0)
    with tempfile.TemporaryDirectory() as folder:
        world = build(
            Path(folder), seed=SEED, pool_rows=2000, dirty="dirty", trusted_rows=200, test_rows=2
        )
        pool, trusted = (
            list(read_rows(Source(str(path))).examples) for path in (world.pool, world.trusted)
        )
        right = world.right()
        arms = {
            "random": Random(SEED).sample(pool, 600),
            "trusted": trusted[:160],
            "right": [row for row in pool if right[row.id]][:600],
        }
        losses = {
            f"{rate:g}": {name: loss(rows, rate, trusted[160:]) for name, rows in arms.items()}
            for rate in RATES
        }
    print(json.dumps(losses, indent=2))


def loss(rows: list[Example], rate: float, held: list[Example]) -> float:
    """Mean nats per response token on held-out trusted rows after the demo's number of steps."""
    config = TrainConfig(
        max_steps=DEMO.steps, per_device_train_batch_size=DEMO.batch, max_length=WINDOW,
        learning_rate=rate, use_peft=False,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        train(rows, str(shipped("strong")), config, seed=0, folder=Path(folder), steps=DEMO.steps)
        found = response_nll(load(folder), held, max_length=WINDOW)
    return round(float(found.total.sum() / found.count.sum()), 4)


if __name__ == "__main__":
    main()
