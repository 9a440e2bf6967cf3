"""run: the whole loop, read -> score -> select -> train -> judge -> report, resumable anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pilotfish.budget import parse_budget
from pilotfish.config import Method, Recipe
from pilotfish.flows.arms import Arm, arms_of
from pilotfish.flows.extras import need_torch
from pilotfish.flows.judge import judge_arm, keep_test
from pilotfish.flows.price import price_lines
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.flows.reading import open_pool
from pilotfish.flows.rows import Training
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
from pilotfish.flows.train import train_arm
from pilotfish.flows.weak import weak_model
from pilotfish.pool import Pool, overlap_keys
from pilotfish.store import Run, run_lock


@dataclass(frozen=True)
class Experiment:
    """Everything one comparison holds fixed while its arms and seeds go by."""

    run: Run
    recipe: Recipe
    pool: Pool
    beside: Beside
    metric: str
    method: Method
    arms: Sequence[Arm]
    training: Training
    force: bool
    progress: Progress

    @property
    def tuned(self) -> bool:
        """Whether the weak model is tuned on trusted rows, anew for every seed."""
        return bool(self.beside.trusted)


def run_experiment(
    recipe: Recipe, out: str, *, force: bool = False, progress: Progress = SILENT
) -> Run:
    """Run a recipe into `out`; what is finished and unchanged is kept, the rest is done."""
    need_torch("a run", extra="train")
    parse_budget(recipe.budget)
    with run_lock(out) as store:
        # after the lock: a second planner is turned away before torch is loaded
        from pilotfish.models import count_parameters, settle_threads
        from pilotfish.report import write

        run = Run(store.root)
        run.update(status="running", config=recipe.model_dump(mode="json", exclude={"out"}))
        settle_threads(max(count_parameters(recipe.weak), count_parameters(recipe.strong)))
        experiment = prepare(run, recipe, force, progress)
        for line in price_lines(
            recipe, experiment.pool, experiment.beside.trusted, experiment.arms
        ):
            progress.note(line)
        for seed in range(recipe.n_seeds):
            pick_for_seed(experiment, seed)
            experiment = with_equal_steps(experiment)
            for arm in experiment.arms:
                compare_arm(experiment, arm, seed)
        run.update(status="complete")
        write(run)
    return run


def prepare(run: Run, recipe: Recipe, force: bool, progress: Progress) -> Experiment:
    """Read every row, decide metric, method and arms, and fix them in run.json."""
    arms = arms_of(
        recipe.evidence, trusted=bool(recipe.trusted), names=recipe.arms, losses=recipe.losses
    )
    check_losses(recipe, arms)
    source = source_of(recipe)
    beside = rows_beside(recipe, source)
    exclude = overlap_keys(beside.test)
    pool = open_pool(run, source, exclude=exclude, force=force, progress=progress)
    metric = the_metric(recipe, beside.test, progress)
    facts = {"data": recipe.test, "held_out": beside.held_out, "metric": metric}
    keep_test(run, beside.test, facts, force=force)
    say_what_is_known(run, beside)
    method, why = the_method(recipe)
    progress.note(f"method: {method.text} ({why})")
    evidence = {
        "level": recipe.evidence,
        "seeds": list(range(recipe.n_seeds)),
        "arms": [arm.name for arm in arms],
        "method": method.text,
        "why": why,
    }
    run.update(evidence=evidence)
    training = Training(
        recipe.strong, recipe.weak, recipe.train, beside.trusted, recipe.tune, recipe.precision
    )
    return Experiment(
        run, recipe, pool, beside, metric, method, arms, training, force, progress
    )  # fmt: skip


def pick_for_seed(experiment: Experiment, seed: int) -> None:
    """Score, select and draw the controls for one seed; without tuning, seed 0 serves all."""
    run, recipe = experiment.run, experiment.recipe
    again = f"-{seed}" if experiment.tuned and seed else ""
    picked = f"selected{again}"
    if experiment.tuned or seed == 0:
        column = experiment.method.text + (f"#seed{again}" if again else "")
        _score(experiment, seed, column)
        select_into(
            run, method=experiment.method, score=column, budget=recipe.budget, name=picked,
            direction=recipe.direction, seed=seed, allow_short=recipe.allow_short,
            force=experiment.force,
        )  # fmt: skip
    wanted = {arm.selection for arm in experiment.arms}
    force = experiment.force
    if "random-{seed}" in wanted:
        random_control(run, seed=seed, name=f"random-{seed}", to=picked, force=force)
    if "length_matched-{seed}" in wanted:
        length_matched(run, seed=seed, name=f"length_matched-{seed}", to=picked, force=force)
    if "longest" in wanted and (experiment.tuned or seed == 0):
        longest_control(run, name=f"longest{again}", to=picked, force=force)


def _score(experiment: Experiment, seed: int, column: str) -> None:
    recipe = experiment.recipe
    weak = weak_model(
        experiment.run, recipe.weak, trusted=experiment.beside.trusted, seed=seed,
        config=recipe.tune, precision=recipe.precision, progress=experiment.progress,
    )  # fmt: skip
    how = Measuring(recipe.max_length, recipe.precision, seed, trusted=recipe.trusted)
    add_scores(
        experiment.run, experiment.pool, weak, {column: experiment.method}, how=how,
        direction=recipe.direction, force=experiment.force, progress=experiment.progress,
    )  # fmt: skip


def with_equal_steps(experiment: Experiment) -> Experiment:
    """Fix the number of optimizer steps from the first selection: equal for every arm."""
    from pilotfish.train import plan_steps

    if experiment.training.steps is not None:
        return experiment
    run = experiment.run
    kept = int(run.section("selections")["selected"]["delivered"])
    steps = plan_steps(kept, experiment.training.config)
    run.update(evidence={**run.section("evidence"), "steps": steps})
    return replace(experiment, training=replace(experiment.training, steps=steps))


def compare_arm(experiment: Experiment, arm: Arm, seed: int) -> None:
    """Train one arm with one seed (base and weak are as they are) and judge it."""
    from pilotfish.models import load

    recipe = experiment.recipe
    if arm.trained:
        train_arm(experiment.run, arm, seed, experiment.training, progress=experiment.progress)
        loaded = load(str(experiment.run.root / f"train/{arm.name}/seed-{seed}"))
    elif arm.name == "weak" and (experiment.tuned or seed == 0):
        loaded = weak_model(
            experiment.run, recipe.weak, trusted=experiment.beside.trusted, seed=seed,
            config=recipe.tune, precision=recipe.precision,
        )  # fmt: skip
    elif seed == 0:
        loaded = load(recipe.strong)
    else:
        return
    judge_arm(
        experiment.run, arm.name, seed, loaded, experiment.beside.test, experiment.metric,
        progress=experiment.progress,
    )  # fmt: skip
