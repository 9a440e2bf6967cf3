"""plan: the numbered steps of a run and what each takes, before anything is spent."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.arms.arms import grid_for
from pilotfish.arms.selections import MAIN, ArmSelections, method_of_recipe
from pilotfish.arms.training_data import check_losses
from pilotfish.budget import parse_budget
from pilotfish.comparison.gates import check_gates
from pilotfish.config import SEEDS, Recipe, TrainConfig
from pilotfish.evaluation.default_metric import metric_of_recipe
from pilotfish.extras import need_torch
from pilotfish.flops import forward, training
from pilotfish.methods import Selector, make
from pilotfish.planning.benchmark import Probe, Scores, facts_of, probe
from pilotfish.planning.data import Holding, hold
from pilotfish.planning.jobs import Grounds, budget_rows, jobs_of
from pilotfish.planning.lengths import MOST, Model, in_view, lengths_of, trained_lengths
from pilotfish.planning.result import Level, Plan, break_even
from pilotfish.planning.steps import Counting, course_of, key_of, steps_of
from pilotfish.planning.throughput import (
    FILES,
    SELECT_ROW,
    Answering,
    Learning,
    Machine,
    Pace,
    Rates,
    Scoring,
    loading,
    machine_speed,
    saving,
)
from pilotfish.progress import SILENT, Progress
from pilotfish.scoring.setup import needs_of
from pilotfish.store import Store

ROW = 1e-4  # seconds to cut a row into tokens


@dataclass(frozen=True)
class Judging:
    """What is asked: rows, and mean tokens of their prompts, answers, and room for an answer."""

    metric: str
    rows: int
    prompt: float
    answer: float
    room: float


def formula(
    grounds: Grounds,
    models: tuple[Model, Model],
    configs: Sequence[TrainConfig],
    judging: Judging,
    *,
    lora: bool,
) -> Rates:
    """Rates of (weak, strong), from their shapes and a tenth of a second of matrix products."""
    machine = machine_speed()
    weak, strong = models
    score = Scoring(
        loading(weak), FILES, ROW, machine.forward(weak.shape, parameters=weak.parameters), FILES,
        FILES, Pace(FILES, SELECT_ROW), Pace(FILES, SELECT_ROW),
    )  # fmt: skip
    step = machine.step(strong.shape, parameters=strong.parameters, lora=lora)
    learning = Learning(loading(strong), ROW, step, saving(strong))
    tuning = Learning(
        loading(weak), ROW, machine.step(weak.shape, parameters=weak.parameters, lora=False),
        saving(weak), score.token,
    )  # fmt: skip
    pool = Judging("exact_match", grounds.pool, judging.prompt, judging.answer, judging.room)
    return Rates(
        "formula",
        "estimated from FLOPs and the measured speed of a matrix product, without a probe: an "
        "order of magnitude",
        score,
        {key_of(config): learning for config in configs},
        _answering(machine, strong, judging),
        tuning,
        _answering(machine, weak, judging),
        _answering(machine, weak, pool),
        facts={"matmul_flops": machine.flops, "operation_seconds": machine.operation},
    )


def _answering(machine: Machine, model: Model, judging: Judging) -> Answering:
    rows, written = judging.rows, judging.metric == "exact_match"
    prompt, load = rows * (judging.prompt + (0 if written else judging.answer)), loading(model)
    if not written:
        seconds = prompt * machine.forward(model.shape, parameters=model.parameters)
        return Answering(load, seconds, seconds, prompt, 0.0)
    known = {"parameters": model.parameters, "rows": rows}
    trained, untrained = (
        machine.answers(model.shape, prompt=judging.prompt, room=room, **known)
        for room in (judging.answer + 1, judging.room)
    )
    return Answering(load, trained, untrained, prompt, rows * judging.answer)


SECONDS = 20.0  # of probing


@dataclass(frozen=True)
class Asked:
    """A recipe, looked through: nothing is wrong with it, and its rows and models are known."""

    recipe: Recipe
    selectors: Mapping[str, Selector]  # by the selection that each makes
    grounds: Grounds
    weak: Model
    strong: Model
    judging: Judging

    @property
    def lora(self) -> bool:
        """Whether the strong model learns by LoRA: as asked, else by its size."""
        from pilotfish.training.setup import learns_lora

        return learns_lora(self.recipe.train, self.strong.parameters)


def plan(
    recipe: Recipe,
    *,
    per_hour: float | None = None,
    probing: bool = True,
    seconds: float = SECONDS,
    progress: Progress = SILENT,
) -> Plan:
    """Price a recipe. Nothing is written but temporary files, and nothing is trained to keep.

    per_hour: money an hour of this machine costs, before what the recipe says. probing: whether
    models are loaded and timed for about `seconds`. Raises what a run of the recipe would raise
    before its first step.
    """
    need_torch("a plan", extra="train")
    with tempfile.TemporaryDirectory(prefix="pilotfish-plan-") as folder:
        asked = look_through(recipe, Path(folder), progress)
        rates, scores, notes = _rates(asked, Path(folder), probing, seconds, progress)
        grounds = replace(asked.grounds, scores=scores)
        return priced(replace(asked, grounds=grounds), rates, per_hour, notes)


def look_through(recipe: Recipe, folder: Path, progress: Progress = SILENT) -> Asked:
    """Read what a run would read, and refuse what it would refuse."""
    start = time.monotonic()
    from pilotfish.models import set_threads

    for budget in recipe.all_budgets:
        parse_budget(budget)
    arms = grid_for(recipe)
    picks = ArmSelections.of(recipe, method_of_recipe(recipe)[0], arms)
    weak, strong = Model.of(recipe.weak), Model.of(recipe.strong)
    check_losses(recipe, arms)
    check_gates(recipe.gates, [arm.name for arm in arms], tasks=bool(recipe.task_column))
    set_threads(max(weak.parameters, strong.parameters))
    progress.note(f"reading {recipe.data}")
    begun = time.monotonic()
    holding = hold(recipe, Store(folder / "pool"))
    reading = time.monotonic() - begun
    metric = metric_of_recipe(recipe, holding.beside.test, progress)
    asked = ask(recipe, picks, holding, (weak, strong), metric)
    # a run looks through its settings as well, prices included
    beside = time.monotonic() - start - reading
    holding = replace(holding, seconds=holding.seconds + beside)
    return replace(asked, grounds=replace(asked.grounds, holding=holding))


def ask(
    recipe: Recipe,
    picks: ArmSelections,
    holding: Holding,
    models: tuple[Model, Model],
    metric: str,
    *,
    most: int = MOST,
) -> Asked:
    """Cut at most so many of the rows at hand into tokens of (weak, strong)."""
    weak, strong = models
    selectors = {
        name: make(method, recipe.direction if name == MAIN else None)
        for name, method in picks.methods.items()
    }
    for selector in selectors.values():
        selector.ranker()  # a direction that nobody gave is asked for before anything is measured
    lengths = lengths_of(holding, recipe, models, needs_of(selectors.values()), most)
    trusted = trained_lengths(holding.beside.trusted, weak, TrainConfig(**dict(recipe.weak_train)))
    grounds = Grounds(recipe, picks, holding, lengths, trusted[trusted > 0])
    grounds = replace(grounds, more=_more(grounds, weak, strong))
    return Asked(recipe, selectors, grounds, weak, strong, _judging(grounds, metric, strong))


def _more(grounds: Grounds, weak: Model, strong: Model) -> float:
    """What share of the selected arm's training the FLOPs of tuning and scoring would buy."""
    from pilotfish.data_order import plan_steps, rows_per_step
    from pilotfish.training.setup import learns_lora

    if weak.shape is None or strong.shape is None:
        return 0.0
    recipe, lengths = grounds.recipe, grounds.lengths
    steps = plan_steps(budget_rows(grounds, recipe.budget), recipe.train)
    learnt = steps * rows_per_step(recipe.train) * lengths.mean
    lora = learns_lora(recipe.train, strong.parameters)
    paid = training(strong.shape, learnt, context=lengths.mean / 2, lora=lora)
    read = grounds.pool * float(lengths.weak.mean()) * len(lengths.passes)
    spent = forward(weak.shape, read, context=in_view(lengths.weak))
    if len(grounds.trusted):
        course = course_of(recipe.weak_train, grounds.trusted)
        spent += training(weak.shape, course.learnt) + forward(weak.shape, course.read)
    return spent / paid


def _judging(grounds: Grounds, metric: str, strong: Model) -> Judging:
    from pilotfish.evaluation.exact_match import ROOM
    from pilotfish.tokenization import encode_prompts

    test = grounds.holding.beside.test
    prompts = encode_prompts(test, strong.tokenizer, strong.window or 2**31, 0)
    texts = [row.response for row in test]
    answers = [
        len(ids)
        for ids in strong.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    ]
    room = max(answers) + ROOM if metric == "exact_match" else 0
    mean = float(np.mean([len(prompt.ids) for prompt in prompts]))
    return Judging(metric, len(test), mean, float(np.mean(answers)), room)


def _rates(
    asked: Asked, folder: Path, probing: bool, seconds: float, progress: Progress
) -> tuple[Rates, Scores, list[str]]:
    """From a probe; where there is none, or it fails, from FLOPs."""
    every = [arm for level in SEEDS for arm in grid_for(asked.recipe, level)]
    notes = [asked.grounds.holding.words]
    if probing:
        wanted = Probe(
            asked.grounds, asked.selectors, asked.judging.metric, kinds(asked), folder,
            frozenset(arm.name for arm in every), any(arm.rows == "relabelled" for arm in every),
            progress,
        )  # fmt: skip
        try:
            rates, scores = probe(wanted, seconds)
            return rates, scores, [*notes, rates.words]
        except (RuntimeError, MemoryError) as error:  # out of memory, or a kernel is missing
            said = (str(error).splitlines() or [type(error).__name__])[0][:120]
            notes.append(f"the probe failed ({said})")
    rates = by_formula(asked)
    return rates, {}, [*notes, rates.words]


def by_formula(asked: Asked) -> Rates:
    """Rates from FLOPs and a fifth of a second of matrix products."""
    models = (asked.weak, asked.strong)
    return formula(asked.grounds, models, kinds(asked), asked.judging, lora=asked.lora)


def kinds(asked: Asked) -> list[TrainConfig]:
    """One of each kind of training that any level of evidence has."""
    every = [arm for level in SEEDS for arm in grid_for(asked.recipe, level) if arm.trained]
    configs = [arm.config(asked.recipe.train) for arm in every]
    return list({key_of(config): config for config in configs}.values())


def priced(
    asked: Asked, rates: Rates, per_hour: float | None = None, notes: Sequence[str] = ()
) -> Plan:
    """The plan, from what is known and how fast things are."""
    from pilotfish.training.setup import wants_bf16

    counting = Counting(
        asked.grounds, asked.weak, asked.strong, rates, asked.judging.prompt, asked.judging.room,
        asked.lora, wants_bf16(asked.recipe.train),
    )  # fmt: skip
    levels = {name: _level(counting, name) for name in SEEDS}
    chosen, pricing = levels[asked.recipe.evidence], asked.recipe.pricing
    return Plan(
        chosen, levels, break_even(counting, chosen.steps),
        {**_device(), "probe": dict(facts_of(rates))}, notes,
        pricing.per_hour if per_hour is None and pricing else per_hour,
        pricing.currency if pricing else "",
    )  # fmt: skip


def _level(counting: Counting, name: str) -> Level:
    recipe = counting.grounds.recipe
    seeds = recipe.n_seeds if name == recipe.evidence else SEEDS[name]
    jobs = jobs_of(counting.grounds, grid_for(recipe, name), seeds)
    return Level(steps_of(counting, jobs, recipe.canary_rows_at(name)), seeds)


def _device() -> dict[str, Any]:
    import torch

    from pilotfish.models import pick_device

    device = pick_device().type
    name = torch.cuda.get_device_name() if device == "cuda" else None
    return {"device": device, "name": name, "threads": torch.get_num_threads()}
