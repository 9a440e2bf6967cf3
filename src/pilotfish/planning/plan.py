"""`plan`: read the rows of a run, time a few batches and steps, and price every step."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilotfish.arms.resolve import resolve_recipe
from pilotfish.arms.workload import ModelInfo, Workload, count_work
from pilotfish.config import SEEDS, Recipe
from pilotfish.errors import need_torch
from pilotfish.evaluation.default_metric import metric_of_recipe
from pilotfish.planning.data import counting_note, read_dataset
from pilotfish.planning.result import Level, Plan, break_even
from pilotfish.planning.steps import CostInputs, list_steps
from pilotfish.planning.throughput import Rates, formula_rates
from pilotfish.progress import SILENT, Progress
from pilotfish.store import Store

PROBE_SECONDS = 20.0


def plan(
    recipe: Recipe,
    *,
    per_hour: float | None = None,
    probing: bool = True,
    seconds: float = PROBE_SECONDS,
    progress: Progress = SILENT,
) -> Plan:
    """Price a recipe. Only temporary files are written, and nothing is trained to keep.

    Args:
        recipe: The settings of the run.
        per_hour: Money an hour of this machine costs; None: the recipe's.
        probing: Load both models and time them; else compute times from FLOPs.
        seconds: About the time that the probe may take.
        progress: Receives one line per part of the work.

    Raises:
        UsageError: As a run of the recipe would raise it before its first step.
        DataError: As a run would raise it while reading its data.
    """
    need_torch("a plan", extra="train")
    with tempfile.TemporaryDirectory(prefix="pilotfish-plan-") as folder:
        work = read_work(recipe, Path(folder), progress)
        notes, rates = [counting_note(work.data)], None
        if probing:
            work, rates, failure = _probe(work, Path(folder), seconds, progress)
            notes += failure
        rates = rates or formula_rates(work)
    # imported after the rows are read: a run loads torch while it reads, and charges it to that
    from pilotfish.training.setup import wants_bf16

    costs, money = CostInputs(work, rates, wants_bf16(recipe.train)), recipe.pricing
    levels = {name: Level(list_steps(costs, name), work.seeds(name)) for name in SEEDS}
    return Plan(
        recipe.evidence,
        levels,
        break_even(costs, levels[recipe.evidence].steps),
        {**_device(), "probe": rates.as_dict()},
        [*notes, rates.note],
        money.per_hour if per_hour is None and money else per_hour,
        money.currency if money else "",
    )


def read_work(recipe: Recipe, folder: Path, progress: Progress = SILENT) -> Workload:
    """Read the rows of a run and count its work; refuse what the run would refuse.

    Args:
        recipe: The settings of the run.
        folder: For the pool, which need not stay.
        progress: Receives the name of what is read.
    """
    start = time.monotonic()
    from pilotfish.models import set_threads

    resolved = resolve_recipe(recipe)
    weak, strong = ModelInfo.read(recipe.weak), ModelInfo.read(recipe.strong)
    set_threads(max(weak.parameters, strong.parameters))
    progress.note(f"reading {recipe.data}")
    begun = time.monotonic()
    data = read_dataset(recipe, Store(folder / "pool"))
    reading = time.monotonic() - begun
    metric = metric_of_recipe(recipe, data.held_out.test, progress)
    work = count_work(resolved, data, (weak, strong), metric)
    # a run checks its settings and prints its prices too, and charges that to reading
    settings = time.monotonic() - start - reading
    return replace(work, data=replace(data, seconds=data.seconds + settings))


def _probe(
    work: Workload, folder: Path, seconds: float, progress: Progress
) -> tuple[Workload, Rates | None, list[str]]:
    """Run the probe; return the work with scores, the rates or None, and a note where it failed."""
    from pilotfish.planning.probe import probe

    try:
        rates, scores = probe(work, folder, seconds, progress)
    except (RuntimeError, MemoryError) as error:  # out of memory, or a kernel is missing
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        return work, None, [f"the probe failed ({reason})"]
    return replace(work, scores=scores), rates, []


def _device() -> dict[str, Any]:
    import torch

    from pilotfish.models import pick_device

    device = pick_device().type
    name = torch.cuda.get_device_name() if device == "cuda" else None
    return {"device": device, "name": name, "threads": torch.get_num_threads()}
