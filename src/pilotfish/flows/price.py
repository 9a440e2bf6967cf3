"""What a run will cost, said before it starts: models, steps, FLOPs and a rough time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pilotfish.budget import parse_budget, resolve
from pilotfish.config import SEEDS, Recipe
from pilotfish.flows.arms import Arm, arms_of
from pilotfish.pool import Pool
from pilotfish.records import Example

# Share of the machine's measured matmul speed that training short rows reaches: a guess, good only
# to print an order of magnitude.
UTILISATION = 0.3
SAMPLE = 200


@dataclass(frozen=True)
class Price:
    """One evidence level's price."""

    level: str
    models: int
    steps: int
    flops: float
    seconds: float

    def line(self, *, chosen: bool) -> str:
        """One line for the reader."""
        mark = "->" if chosen else "  "
        return (
            f"{mark} evidence {self.level}: {self.models} models x {self.steps:,} steps, "
            f"{self.flops:.2e} FLOPs, about {_time(self.seconds)}"
        )


def price_lines(
    recipe: Recipe, pool: Pool, trusted: Sequence[Example], arms: Sequence[Arm]
) -> list[str]:
    """The price of every evidence level, the chosen one marked."""
    from pilotfish.models import count_parameters, load_tokenizer
    from pilotfish.train import plan_steps, rows_per_step

    budget = parse_budget(recipe.budget)
    tokens = _tokens_per_row(pool, load_tokenizer(recipe.strong), recipe.train.max_length)
    wanted = resolve(budget, len(pool))
    rows = wanted if budget.unit == "rows" else int(wanted / max(tokens, 1))
    steps = plan_steps(max(rows, 1), recipe.train)
    one = 6.0 * count_parameters(recipe.strong) * steps * rows_per_step(recipe.train) * tokens
    speed = _matmul_speed() * UTILISATION
    lines = ["price (training only, rough):"]
    for level in SEEDS:
        chosen = level == recipe.evidence
        wanted_arms = arms if chosen else arms_of(level, trusted=bool(trusted))
        seeds = recipe.n_seeds if chosen else SEEDS[level]
        models = seeds * sum(arm.trained for arm in wanted_arms)
        price = Price(level, models, steps, one * models, one * models / speed)
        lines.append(price.line(chosen=chosen))
    return lines


def _tokens_per_row(pool: Pool, tokenizer: object, max_length: int) -> float:
    from pilotfish.encode import encode_training

    stride = max(1, len(pool) // SAMPLE)
    sample = pool.take(range(0, len(pool), stride))
    lengths = [len(row.ids) for row in encode_training(sample, tokenizer, max_length)]
    return sum(lengths) / max(len(lengths), 1)


def _matmul_speed() -> float:
    """FLOP/s of a middling matrix product on the device models will use (about 0.1 s)."""
    import torch

    from pilotfish.models import pick_device
    from pilotfish.precision import pick_dtype

    device = pick_device()
    size = 512 if device.type == "cpu" else 4096
    square = torch.ones(size, size, device=device, dtype=pick_dtype("auto", device))
    float((square @ square)[0, 0])
    start, rounds = time.perf_counter(), 10
    for _ in range(rounds):
        last = square @ square
    float(last[0, 0])
    return rounds * 2 * size**3 / (time.perf_counter() - start)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
