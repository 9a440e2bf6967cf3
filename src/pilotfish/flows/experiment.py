"""run: the whole loop, read -> score -> select -> train -> judge -> report, resumable anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pilotfish.budget import parse_budget
from pilotfish.config import Method, Recipe
from pilotfish.flows.arms import Arm, arms_of
from pilotfish.flows.extras import need_torch
from pilotfish.flows.held_out import keep_test
from pilotfish.flows.judge import ArmSeed, judge_arm, judged_models, retire
from pilotfish.flows.material import replayed
from pilotfish.flows.price import price_lines
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.flows.reading import open_pool
from pilotfish.flows.rows import Training, stream
from pilotfish.flows.score import Measuring, add_scores
from pilotfish.flows.select import length_matched, longest_control, random_control, select_into
from pilotfish.flows.setup import (
    Beside,
    check_losses,
    rows_beside,
    say_what_is_known,
    source_of,
    the_method,
    the_metric,
)
from pilotfish.flows.train import train_arm, train_folder
from pilotfish.flows.weak import weak_model
from pilotfish.pool import Pool, overlap_keys
from pilotfish.store import Run, run_lock

if TYPE_CHECKING:
    from pilotfish.models import Loaded

# Settings that say which results there are, and change none of them.
_ADDING = {"evidence", "seeds", "arms", "losses", "variants", "margin"}


@dataclass(frozen=True)
class Experiment:
    """Everything one comparison holds fixed while its arms and seeds go by."""

    run: Run
    recipe: Recipe
    pool: Pool
    beside: Beside
    metric: str
    method: Method
    why: str  # this method
    arms: Sequence[Arm]
    training: Training
    force: bool
    progress: Progress

    @property
    def planned(self) -> list[ArmSeed]:
        """Every arm and seed to be judged: untrained models are judged once."""
        return [
            (arm.name, seed)
            for seed in range(self.recipe.n_seeds)
            for arm in self.arms
            if seed == 0 or arm.trained or (arm.name == "weak" and self.training.tuned)
        ]


def run_experiment(
    recipe: Recipe, out: str, *, force: bool = False, progress: Progress = SILENT
) -> Run:
    """Run a recipe into `out`; what is finished and unchanged is kept, the rest is done.

    UsageError, naming what changed, where `out` holds other data, test rows, scores or selections
    (unless `force`); run.json then tells what it told before.
    """
    need_torch("a run", extra="train")
    parse_budget(recipe.budget)
    with run_lock(out) as store:
        # after the lock: a second planner is turned away before torch is loaded
        from pilotfish.models import count_parameters, settle_threads
        from pilotfish.report import write

        run = Run(store.root)
        settle_threads(max(count_parameters(recipe.weak), count_parameters(recipe.strong)))
        experiment = prepare(run, recipe, force, progress)
        for line in price_lines(
            recipe, experiment.pool, experiment.beside.trusted, experiment.arms
        ):
            progress.note(line)
        for seed in range(recipe.n_seeds):
            pick_for_seed(experiment, seed)
            experiment = experiment if seed else begin(experiment)
            for arm in experiment.arms:
                compare_arm(experiment, arm, seed)
        run.update(status="complete")
        write(run)
    return run


def prepare(run: Run, recipe: Recipe, force: bool, progress: Progress) -> Experiment:
    """Read every row, decide metric, method and arms, and store the rows to judge on."""
    arms = arms_of(
        recipe.evidence, trusted=bool(recipe.trusted), names=recipe.arms,
        variants=recipe.all_variants,
    )  # fmt: skip
    check_losses(recipe, arms)
    method, why = the_method(recipe)
    source = source_of(recipe)
    beside = rows_beside(recipe, source)
    exclude = overlap_keys(beside.test)
    pool = open_pool(run, source, exclude=exclude, force=force, progress=progress)
    metric = the_metric(recipe, beside.test, progress)
    facts = {"data": recipe.test, "held_out": beside.held_out, "metric": metric}
    keep_test(run, beside.test, facts, force=force)
    for data in sorted({arm.config(recipe.train).replay or "" for arm in arms} - {""}):
        replayed(run, data, limit=1)  # what cannot be read is said now
    say_what_is_known(run, beside)
    progress.note(f"method: {method.text} ({why})")
    training = _training(run, recipe, beside, force=force, progress=progress)
    return Experiment(
        run, recipe, pool, beside, metric, method, why, arms, training, force, progress
    )  # fmt: skip


def _training(
    run: Run, recipe: Recipe, beside: Beside, *, force: bool, progress: Progress
) -> Training:
    from pilotfish.models import identify

    def weak(seed: int) -> "Loaded":
        return weak_model(
            run, recipe.weak, trusted=beside.trusted, seed=seed, stream=stream(recipe.seed, seed),
            config=recipe.tune, precision=recipe.precision, force=force, progress=progress,
        )  # fmt: skip

    return Training(
        recipe.strong, identify(recipe.strong), recipe.train, weak, beside.trusted,
        tuned=bool(beside.trusted), seed=recipe.seed,
    )  # fmt: skip


def pick_for_seed(experiment: Experiment, seed: int) -> None:
    """Score, select and draw the controls for one seed; without tuning, seed 0 serves all."""
    run, recipe, force = experiment.run, experiment.recipe, experiment.force
    anew, draw = experiment.training.tuned or seed == 0, experiment.training.stream(seed)
    again = f"-{seed}" if experiment.training.tuned and seed else ""
    picked = f"selected{again}"
    if anew:
        column = experiment.method.text + (f"#seed{again}" if again else "")
        _score(experiment, seed, column)
        select_into(
            run, method=experiment.method, score=column, budget=recipe.budget, name=picked,
            direction=recipe.direction, seed=draw, allow_short=recipe.allow_short, force=force,
        )  # fmt: skip
    wanted = {arm.selection for arm in experiment.arms}
    if "random-{seed}" in wanted:
        random_control(run, seed=draw, name=f"random-{seed}", to=picked, force=force)
    if "length_matched-{seed}" in wanted:
        length_matched(run, seed=draw, name=f"length_matched-{seed}", to=picked, force=force)
    if "longest" in wanted and anew:
        longest_control(run, name=f"longest{again}", to=picked, force=force)


def _score(experiment: Experiment, seed: int, column: str) -> None:
    recipe, training = experiment.recipe, experiment.training
    how = Measuring(
        recipe.max_length, recipe.precision, seed, training.stream(seed), trusted=recipe.trusted
    )
    add_scores(
        experiment.run, experiment.pool, training.weak(seed), {column: experiment.method}, how=how,
        direction=recipe.direction, force=experiment.force, progress=experiment.progress,
    )  # fmt: skip


def begin(experiment: Experiment) -> Experiment:
    """Once nothing was refused: write down the plan, and withdraw results of another one.

    The number of optimizer steps comes from the first selection and is equal for every arm.
    """
    from pilotfish.train import plan_steps

    run, recipe = experiment.run, experiment.recipe
    kept = int(run.section("selections")["selected"]["delivered"])
    steps = plan_steps(kept, experiment.training.config)
    config = recipe.model_dump(mode="json", exclude={"out"})
    retire(run, _of_another_plan(experiment, config))
    evidence = {
        "level": recipe.evidence,
        "seeds": list(range(recipe.n_seeds)),
        "arms": [arm.name for arm in experiment.arms],
        "method": experiment.method.text,
        "why": experiment.why,
        "steps": steps,
    }
    run.update(status="running", config=config, evidence=evidence)
    return replace(experiment, training=replace(experiment.training, steps=steps))


def _of_another_plan(experiment: Experiment, config: dict[str, Any]) -> list[ArmSeed]:
    """What was judged under other settings, or is no part of this comparison."""
    judged, old = judged_models(experiment.run), experiment.run.section("config")
    changed = {key for key in {*old, *config} if old.get(key) != config.get(key)} - _ADDING
    if old and changed:
        return judged
    return [model for model in judged if model not in experiment.planned]


def compare_arm(experiment: Experiment, arm: Arm, seed: int) -> None:
    """Train one arm with one seed (base and weak are as they are) and judge it."""
    from pilotfish.models import load

    if (arm.name, seed) not in experiment.planned:
        return
    if arm.trained:
        train_arm(experiment.run, arm, seed, experiment.training, progress=experiment.progress)
        loaded = load(str(experiment.run.root / train_folder(arm.name, seed)))
    else:
        loaded = (
            experiment.training.weak(seed) if arm.name == "weak" else load(experiment.recipe.strong)
        )
    judge_arm(
        experiment.run, (arm.name, seed), loaded, experiment.beside.test, experiment.metric,
        progress=experiment.progress,
    )  # fmt: skip
