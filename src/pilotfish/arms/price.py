"""The price of every evidence level, printed before a run starts: FLOPs at this machine's speed.

Nothing is timed but a matrix product and an addition, so the seconds are an order of magnitude;
`pilotfish plan` runs a few batches and steps instead.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pilotfish.arms.selections import ArmSelections
from pilotfish.arms.workload import (
    DatasetSize,
    EvalWork,
    ModelInfo,
    Workload,
    count_work,
    evaluation_flops,
)
from pilotfish.config import SEEDS, Recipe
from pilotfish.data import Pool
from pilotfish.data.held_out import HeldOutData
from pilotfish.flops import Shape, forward, generation, training
from pilotfish.progress import duration

T = TypeVar("T")

SAMPLED_ROWS = 200  # pool rows tokenized
# Share of the machine's measured matmul speed that models reach: four fifths where they are large
# and only read (docs/benchmarks.md), less in training, far less where they are tiny.
UTILISATION = 0.5
ROUNDS = 5
# Small operations of one layer's forward pass; a training step has three times as many.
OPERATIONS = 25
WRITE_BYTES = 2e8  # bytes a second that are hashed and forced to disk
BATCH_TOKENS = 8192  # of a batch of prompts with their answers


@dataclass(frozen=True)
class Pace:
    """Seconds as a line: `fixed`, and `each` more for every unit."""

    fixed: float
    each: float

    def __call__(self, units: float) -> float:
        """Return the seconds for that many units."""
        return self.fixed + self.each * units


@dataclass(frozen=True)
class MachineSpeed:
    """How fast the device multiplies, and what any operation costs, however small."""

    flops: float  # FLOP/s of a matrix product
    operation: float  # seconds

    def forward(self, shape: Shape) -> float:
        """Seconds per token of a forward pass."""
        return forward(shape, 1.0) / (UTILISATION * self.flops)

    def step(self, shape: Shape, *, parameters: int, lora: bool) -> Pace:
        """Seconds of an optimizer step, by padded positions.

        AdamW moves about 16 bytes for each of `parameters`, at about 5 GB a second.
        """
        each = training(shape, 1.0, lora=lora) / (UTILISATION * self.flops)
        moved = 0.0 if lora else parameters * 16 / 5e9
        return Pace(3 * OPERATIONS * shape.layers * self.operation + moved, each)

    def answers(self, shape: Shape, *, rows: int, prompt: float, room: float) -> float:
        """Seconds of greedy answers of `room` tokens to `rows` prompts of `prompt` tokens each."""
        work = generation(shape, prompt, room, rows=rows) / (UTILISATION * self.flops)
        batches = max(1.0, rows * (prompt + room) / BATCH_TOKENS)
        return work + batches * room * OPERATIONS * shape.layers * self.operation

    def evaluation(self, model: ModelInfo, work: EvalWork, *, trained: bool) -> float:
        """Seconds of evaluating a model; one that is not trained goes on to the end of the room."""
        if not work.generates:
            return work.read_tokens * self.forward(model.shape)
        room = work.answer + 1 if trained else work.room
        return self.answers(model.shape, rows=work.rows, prompt=work.prompt, room=room)


def machine_speed() -> MachineSpeed:
    """Measure the device that models will use, in about a fifth of a second."""
    import torch

    from pilotfish.models import pick_device
    from pilotfish.number_formats import pick_dtype

    device = pick_device()
    size = 512 if device.type == "cpu" else 4096
    square = torch.ones(size, size, device=device, dtype=pick_dtype("auto", device))
    few = torch.ones(8, device=device)
    product = _best_of_rounds(lambda: square @ square, lambda made: float(made[0, 0]), 10)
    operation = _best_of_rounds(lambda: few + few, lambda made: float(made[0]), 200)
    return MachineSpeed(2 * size**3 / product, operation)


def _best_of_rounds(work: Callable[[], T], wait: Callable[[T], object], times: int) -> float:
    """Seconds of one call in the fastest round; `wait` drains the queue of the device."""
    best = float("inf")
    wait(work())
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(times):
            last = work()
        wait(last)
        best = min(best, (time.perf_counter() - start) / times)
    return best


def load_seconds(model: ModelInfo) -> float:
    """Seconds to read and hash the weights of a model that was never loaded: a guess."""
    return 0.1 + model.parameters * 4 / 5e8


def save_seconds(model: ModelInfo) -> float:
    """Seconds to write the weights of a model, hash them and force them to disk."""
    return 0.05 + model.parameters * 4 / WRITE_BYTES


@dataclass(frozen=True)
class Price:
    """What one level of evidence takes. flops: None where a model's shape is unknown."""

    models: int  # strong models trained
    seeds: int
    flops: float | None
    seconds: float

    def text(self, per_hour: float | None, currency: str) -> str:
        """Return the price in words, with money where an hour has a price."""
        flops = "" if self.flops is None else f", {self.flops:.2e} FLOPs"
        paid = money_text(self.seconds, per_hour)
        return (
            f"{self.models} model{'' if self.models == 1 else 's'} trained, {self.seeds} "
            f"seed{'' if self.seeds == 1 else 's'}{flops}, about {duration(self.seconds)}"
            + (f", {paid} {currency}".rstrip() if paid else "")
        )


def money_text(seconds: float, per_hour: float | None) -> str:
    """Return what that many seconds cost; "" where an hour has no price."""
    if per_hour is None:
        return ""
    money = seconds / 3600 * per_hour
    return f"{money:,.2f}" if money >= 0.01 else "<0.01"


def level_lines(
    prices: Mapping[str, Price], chosen: str, per_hour: float | None, currency: str
) -> list[str]:
    """Return one line per level of evidence, the chosen one marked."""
    return [
        f"{'->' if name == chosen else '  '} evidence {name}: {price.text(per_hour, currency)}"
        for name, price in prices.items()
    ]


def price_lines(
    recipe: Recipe, pool: Pool, beside: HeldOutData, picks: ArmSelections, metric: str
) -> list[str]:
    """Return the price of every evidence level, the recipe's own marked.

    Args:
        recipe: The settings of the run.
        pool: Its rows.
        beside: Its trusted and test rows.
        picks: Its methods and budgets.
        metric: What the models are evaluated by.
    """
    models = ModelInfo.read(recipe.weak), ModelInfo.read(recipe.strong)
    data = DatasetSize(pool, beside, len(pool))
    work = count_work(recipe, picks, data, models, metric, max_rows=SAMPLED_ROWS)
    machine, money = machine_speed(), recipe.pricing
    prices = {level: _price(work, machine, level) for level in SEEDS}
    per_hour, currency = (money.per_hour, money.currency) if money else (None, "")
    return [
        "price (rough: `pilotfish plan` measures it):",
        *level_lines(prices, recipe.evidence, per_hour, currency),
    ]


def _price(work: Workload, machine: MachineSpeed, level: str) -> Price:
    """Add up one level: loading, saving, overhead per step, and FLOPs at the machine's speed."""
    weak, strong, jobs, seeds = work.weak, work.strong, work.jobs(level), work.seeds(level)
    speed, times = UTILISATION * machine.flops, seeds if work.tuned else 1
    flops = times * work.reading_flops(work.scored_tokens)
    flops += sum(work.reading_flops(each or 0.0) for _, _, each in work.canaries(level, jobs))
    seconds = times * load_seconds(weak) + flops / speed
    if work.tuned:
        step = machine.step(weak.shape, parameters=weak.parameters, lora=False)
        flops += times * work.tuning_flops
        once = load_seconds(weak) + work.tuning.steps * step.fixed + work.tuning_flops / speed
        seconds += times * (once + save_seconds(weak))
    step = machine.step(strong.shape, parameters=strong.parameters, lora=work.lora)
    for job in jobs:
        if job.arm.trained:
            flops += work.training_flops(job)
            once = load_seconds(strong) + job.steps * step.fixed + work.training_flops(job) / speed
            seconds += (1 + job.tried_rates) * once + save_seconds(strong)
    evaluated = [
        (weak if job.arm.name == "weak" else strong, work.test, job.arm.trained) for job in jobs
    ]
    if any(job.arm.rows == "relabelled" for job in jobs):
        evaluated += [(weak, work.labeling, False)] * times
    for model, rows, trained in evaluated:
        flops += evaluation_flops(model, rows.rows, rows.read_tokens, rows.new_tokens) or 0.0
        seconds += load_seconds(model) + machine.evaluation(model, rows, trained=trained)
    known = weak.known_shape is not None and strong.known_shape is not None
    models = sum(job.arm.trained for job in jobs)
    return Price(models, seeds, flops if known else None, seconds)
