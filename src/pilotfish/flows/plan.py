"""plan: the numbered steps of a run and what each takes, before anything is spent."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.budget import parse_budget
from pilotfish.config import SEEDS, Method, Recipe, TrainConfig
from pilotfish.flows.arms import Arm, arms_of
from pilotfish.flows.extras import need_torch
from pilotfish.flows.plan_data import hold
from pilotfish.flows.plan_even import break_even
from pilotfish.flows.plan_formula import Judging, formula
from pilotfish.flows.plan_models import Grounds, jobs_of
from pilotfish.flows.plan_probe import Probe, facts_of, probe
from pilotfish.flows.plan_rates import Rates
from pilotfish.flows.plan_result import Level, Plan
from pilotfish.flows.plan_steps import Counting, key_of, steps_of
from pilotfish.flows.plan_tokens import Model, lengths_of, trained_lengths
from pilotfish.flows.planned import needs_of
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.flows.setup import check_losses, the_method, the_metric
from pilotfish.records import Floats
from pilotfish.selectors import Selector, make
from pilotfish.store import Store

SECONDS = 20.0  # of probing, loading of models aside


@dataclass(frozen=True)
class Asked:
    """A recipe, looked through: nothing is wrong with it, and its rows and models are known."""

    recipe: Recipe
    method: Method
    selector: Selector
    grounds: Grounds
    weak: Model
    strong: Model
    arms: Sequence[Arm]
    metric: str
    judging: Judging


def plan(
    recipe: Recipe,
    *,
    per_hour: float | None = None,
    probing: bool = True,
    seconds: float = SECONDS,
    progress: Progress = SILENT,
) -> Plan:
    """Price a recipe. Nothing is written but temporary files, and nothing is trained to keep.

    per_hour: money an hour of this machine costs. probing: whether models are loaded and timed for
    about `seconds`. Raises what a run of the recipe would raise before its first step.
    """
    need_torch("a plan", extra="train")
    with tempfile.TemporaryDirectory(prefix="pilotfish-plan-") as folder:
        asked = look_through(recipe, Path(folder), progress)
        rates, scores, notes = _rates(asked, Path(folder), probing, seconds, progress)
        grounds = replace(asked.grounds, scores=scores)
        return priced(replace(asked, grounds=grounds), rates, per_hour, notes)


def look_through(recipe: Recipe, folder: Path, progress: Progress = SILENT) -> Asked:
    """Read what a run would read, and refuse what it would refuse."""
    from pilotfish.models import settle_threads

    parse_budget(recipe.budget)
    arms = arms_at(recipe, recipe.evidence)
    method, _ = the_method(recipe)
    weak, strong = Model.of(recipe.weak), Model.of(recipe.strong)
    check_losses(recipe, arms)
    settle_threads(max(weak.parameters, strong.parameters))
    progress.note(f"reading {recipe.data}")
    holding = hold(recipe, Store(folder / "pool"))
    metric = the_metric(recipe, holding.beside.test, progress)
    selector = make(method, recipe.direction)
    lengths = lengths_of(holding, recipe, weak, strong, needs_of([selector]))
    trusted = trained_lengths(holding.beside.trusted, weak, TrainConfig(**dict(recipe.tune)))
    grounds = Grounds(recipe, holding, lengths, trusted[trusted > 0])
    return Asked(
        recipe,
        method,
        selector,
        grounds,
        weak,
        strong,
        arms,
        metric,
        _judging(grounds, metric, strong),
    )


def arms_at(recipe: Recipe, level: str) -> list[Arm]:
    """The arms of a level of evidence: those the recipe names, where it is its own."""
    own = level == recipe.evidence
    return arms_of(
        level, trusted=bool(recipe.trusted), names=recipe.arms if own else None,
        variants=recipe.all_variants,
    )  # fmt: skip


def _judging(grounds: Grounds, metric: str, strong: Model) -> Judging:
    from pilotfish.encode import encode_prompts
    from pilotfish.judge.exact_match import ROOM

    test = grounds.holding.beside.test
    prompts = encode_prompts(test, strong.tokenizer, strong.window or 2**31, 0)
    texts = [row.response for row in test]
    answers = [len(ids) for ids in strong.tokenizer(texts, add_special_tokens=False)["input_ids"]]
    room = max(answers) + ROOM if metric == "exact_match" else 0
    mean = float(np.mean([len(prompt.ids) for prompt in prompts]))
    return Judging(metric, len(test), mean, float(np.mean(answers)), room)


def _rates(
    asked: Asked, folder: Path, probing: bool, seconds: float, progress: Progress
) -> tuple[Rates, Floats | None, list[str]]:
    every = [arm for level in SEEDS for arm in arms_at(asked.recipe, level)]
    configs = [arm.config(asked.recipe.train) for arm in every]
    distinct = list({key_of(config): config for config in configs}.values())
    notes = [asked.grounds.holding.words]
    if probing:
        wanted = Probe(
            asked.grounds, asked.method, asked.selector, asked.metric, distinct, folder,
            frozenset(arm.name for arm in every), any(arm.rows == "relabelled" for arm in every),
            progress,
        )  # fmt: skip
        try:
            rates, scores = probe(wanted, seconds)
            return rates, scores, [*notes, rates.words]
        except (RuntimeError, MemoryError) as error:  # out of memory, or a kernel that is missing
            notes.append(f"the probe failed ({str(error).splitlines()[0][:120]})")
    models = (asked.weak, asked.strong)
    rates = formula(asked.grounds, models, distinct, asked.judging, lora=learns_lora(asked))
    return rates, None, [*notes, rates.words]


def learns_lora(asked: Asked) -> bool:
    """Whether the strong model learns by LoRA: as asked, else by its size."""
    from pilotfish.train.setup import LORA_FROM

    given = asked.recipe.train.use_peft
    return given if given is not None else asked.strong.parameters >= LORA_FROM


def priced(
    asked: Asked, rates: Rates, per_hour: float | None = None, notes: Sequence[str] = ()
) -> Plan:
    """The plan, from what is known and how fast things are."""
    from pilotfish.train.setup import wants_bf16

    counting = Counting(
        asked.grounds, asked.weak, asked.strong, rates, asked.judging.prompt, asked.judging.room,
        2048, learns_lora(asked), wants_bf16(asked.recipe.train),
    )  # fmt: skip
    levels = {name: _level(counting, asked, name) for name in SEEDS}
    chosen = levels[asked.recipe.evidence]
    return Plan(
        asked.recipe, chosen, levels, break_even(counting, asked.selector, chosen.steps),
        {**_device(), "probe": dict(facts_of(rates))}, notes, per_hour,
    )  # fmt: skip


def _level(counting: Counting, asked: Asked, name: str) -> Level:
    own = name == asked.recipe.evidence
    seeds = asked.recipe.n_seeds if own else SEEDS[name]
    arms = asked.arms if own else arms_at(asked.recipe, name)
    return Level(steps_of(counting, jobs_of(counting.grounds, arms, seeds)), seeds)


def _device() -> dict[str, Any]:
    import torch

    from pilotfish.models import pick_device

    device = pick_device().type
    name = torch.cuda.get_device_name() if device == "cuda" else None
    return {"device": device, "name": name, "threads": torch.get_num_threads()}
