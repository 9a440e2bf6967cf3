"""run: the whole loop of read, score, select, train, evaluate and report; resumable anywhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pilotfish import remote_code
from pilotfish.arms.arms import Arm
from pilotfish.arms.matched_compute import matched_compute, steps_of
from pilotfish.arms.price import price_lines
from pilotfish.arms.resolve import ResolvedRecipe, resolve_recipe
from pilotfish.arms.selections import SeedDraw, select_for_seed, select_matched_compute
from pilotfish.arms.training_data import TrainingPlan, check_weights, replay_rows, seed_stream
from pilotfish.budget import parse_budget
from pilotfish.comparison.gates import check_references
from pilotfish.config import Recipe, upgrade_settings
from pilotfish.config.scoring import ScoreConfig
from pilotfish.data import Pool, overlap_keys
from pilotfish.data.held_out import (
    HeldOutData,
    load_eval_rows,
    source_of_recipe,
    store_test_rows,
    warn_weak_evidence,
)
from pilotfish.data.run_pool import open_pool
from pilotfish.errors import need_torch
from pilotfish.evaluation.default_metric import metric_of_recipe
from pilotfish.experiments.evaluate import (
    ArmSeed,
    evaluate_arm,
    evaluated_models,
    tasks_of,
    withdraw_results,
)
from pilotfish.experiments.train import train_arm, train_folder
from pilotfish.flops import RESUME
from pilotfish.progress import SILENT, Progress
from pilotfish.redaction import redact_values
from pilotfish.run_context import RunContext
from pilotfish.scoring.score import add_scores
from pilotfish.scoring.weak_model import weak_model
from pilotfish.selection.canaries.lift import measure_canaries_in
from pilotfish.store import Run, run_lock

if TYPE_CHECKING:
    from pilotfish.models import Loaded

# Settings that add or remove results, and change none of those that stay.
_ADDING = {"evidence", "seeds", "arms", "losses", "variants", "margin", "budgets", "methods"}
_ADDING |= {"matched_on", "method_selection", "gates", "pricing", "canaries"}


@dataclass(frozen=True)
class Experiment:
    """A resolved recipe, and the rows and models that its arms and seeds share.

    Attributes:
        ctx: The run folder, whose lock is held.
        resolved: The recipe with its arms, methods and selections.
        pool: The rows to select from.
        held_out: The trusted rows and the test rows.
        metric: Name of the metric of evaluation.
        training: Strong model, weak model and training settings of all arms.
    """

    ctx: RunContext
    resolved: ResolvedRecipe
    pool: Pool
    held_out: HeldOutData
    metric: str
    training: TrainingPlan

    @property
    def recipe(self) -> Recipe:
        """The settings."""
        return self.resolved.recipe

    @property
    def models(self) -> list[ArmSeed]:
        """Every arm and seed to evaluate; an arm without training has one seed."""
        return [
            (arm.name, seed)
            for seed in range(self.recipe.n_seeds)
            for arm in self.resolved.arms
            if seed == 0 or arm.trained or (arm.name == "weak" and self.training.tuned)
        ]


def run_experiment(
    recipe: Recipe, out: str, *, force: bool = False, progress: Progress = SILENT
) -> Run:
    """Run a recipe into a folder. Results that are finished and unchanged are kept.

    Args:
        recipe: The settings.
        out: The run folder, made if missing.
        force: Replace results that were made from other data or settings.
        progress: Receives notes and steps.

    Returns:
        The run, complete and reported.

    Raises:
        UsageError: The recipe is not possible, or `out` holds other data, test rows, scores or
            selections (named). run.json and the report are then as before.
        DataError: The data is not usable.
        RunBusy: Another command works on the run.
    """
    need_torch("a run", extra="train")
    for budget in recipe.all_budgets:
        parse_budget(budget)  # before the folder is made
    with run_lock(out) as store, remote_code.allowing(recipe.trust_remote_code):
        # after the lock: a second planner is turned away before torch is loaded
        ctx = RunContext(Run(store.root), progress, force)
        timer = StageTimer(ctx.run)
        with timer.timed("read", "rows and settings"):
            from pilotfish.models import count_parameters, set_threads
            from pilotfish.report import write

            set_threads(max(count_parameters(recipe.weak), count_parameters(recipe.strong)))
            experiment = prepare(ctx, resolve_recipe(recipe))
        with timer.timed("plan", "prices"):
            rows = experiment.pool, experiment.held_out
            for line in price_lines(experiment.resolved, *rows, experiment.metric):
                progress.note(line)
        for seed in range(recipe.n_seeds):
            with timer.timed("draw", f"controls of seed {seed}"):
                if seed == 0 or experiment.training.tuned:
                    score(experiment, seed, timer)
                experiment = select(experiment, seed)
                if seed == 0:
                    write_plan(experiment)
            for arm in experiment.resolved.arms:
                if (arm.name, seed) in experiment.models:
                    with timer.timed("load", f"{arm.name} seed {seed}"):
                        train_and_evaluate(experiment, arm, seed)
        with timer.timed("report", "page"):
            ctx.run.update(status="complete")
        timer.record()
        with timer.timed("report", "page"):
            write(ctx.run)
        timer.record()
    return ctx.run


def prepare(ctx: RunContext, resolved: ResolvedRecipe) -> Experiment:
    """Read all rows, store the test rows, and refuse what the rows cannot meet.

    Raises:
        UsageError: The run holds other rows, or rows and settings do not fit.
        DataError: Rows cannot be read, or lack a column that the recipe names.
    """
    from pilotfish.models import identify

    recipe, run, force, progress = resolved.recipe, ctx.run, ctx.force, ctx.progress
    source = source_of_recipe(recipe)
    held_out = load_eval_rows(recipe, source)
    exclude = overlap_keys(held_out.test)
    pool = open_pool(run, source, exclude=exclude, force=force, progress=progress)
    metric = metric_of_recipe(recipe, held_out.test, progress)
    facts = {"data": recipe.test, "held_out": held_out.held_out, "metric": metric}
    if recipe.task_column:
        facts["task_column"] = recipe.task_column
    store_test_rows(run, held_out.test, facts, force=force)

    # errors of rows and references are raised now, before a model is loaded
    tasks = tasks_of(run, held_out.test)
    check_references(run, recipe.gates, [arm.name for arm in resolved.arms], tasks.values())
    configs = [arm.config(recipe.train) for arm in resolved.arms]
    for data in sorted({config.replay for config in configs if config.replay}):
        replay_rows(run, data, limit=1)
    trained = zip(resolved.arms, configs, strict=True)
    check_weights(pool, [config for arm, config in trained if arm.trained])
    warn_weak_evidence(run, held_out)
    progress.note(f"method: {resolved.method.text} ({resolved.why})")

    tuned = bool(held_out.trusted)

    def load_weak(seed: int) -> "Loaded":
        return weak_model(ctx, _score_config(resolved, seed, tuned=tuned), held_out.trusted)

    training = TrainingPlan(
        recipe.strong, identify(recipe.strong), recipe.train, load_weak, held_out.trusted,
        tuned=tuned, seed=recipe.seed,
    )  # fmt: skip
    return Experiment(ctx, resolved, pool, held_out, metric, training)


def score(experiment: Experiment, seed: int, timer: "StageTimer") -> None:
    """Score the pool by all methods in one pass, with the weak model of a seed.

    Args:
        experiment: The experiment.
        seed: Number of the seed; without tuning, the scores of seed 0 serve all.
        timer: Charges the time of loading the weak model.
    """
    config = _score_config(experiment.resolved, seed, tuned=experiment.training.tuned)
    scored = {*config.columns()} <= {*experiment.ctx.run.section("scores")}
    with timer.timed(RESUME if scored else "score", "loading the weak model"):
        weak = experiment.training.weak(seed)
    add_scores(experiment.ctx, experiment.pool, weak, config)


def _score_config(resolved: ResolvedRecipe, seed: int, *, tuned: bool) -> ScoreConfig:
    """Return how one seed tunes its weak model, and scores by every method of the recipe."""
    recipe, columns = resolved.recipe, resolved.selections.columns(_suffix(seed, tuned=tuned))
    return ScoreConfig(
        recipe.weak,
        [*columns.values()],
        [*columns],
        direction=recipe.direction,
        trusted=recipe.trusted,
        max_length=recipe.max_length,
        precision=recipe.precision,
        seed=seed,
        stream=seed_stream(recipe.seed, seed),
        weak_train=recipe.weak_train,
    )


def _suffix(seed: int, *, tuned: bool) -> str:
    """Return the suffix of columns and selections of a later seed; "" if those of seed 0 serve."""
    return f"-{seed}" if tuned and seed else ""


def select(experiment: Experiment, seed: int) -> Experiment:
    """Make the selections and controls of one seed.

    Returns:
        The experiment, with the number of optimizer steps that follows from the first selection.
    """
    from pilotfish.data_order import plan_steps

    ctx, run, resolved = experiment.ctx, experiment.ctx.run, experiment.resolved
    training, selections, recipe = experiment.training, resolved.selections, experiment.recipe
    draw = SeedDraw(seed, training.stream(seed), _suffix(seed, tuned=training.tuned))
    select_for_seed(ctx, selections, draw)
    made = run.section("selections")
    if seed == 0:
        if recipe.canary_rows:
            names = [name for name in selections.with_controls if name in made]
            measure_canaries_in(ctx, names, recipe.canary_rows)
        steps = plan_steps(int(made["selected"]["delivered"]), training.config)
        training = replace(training, steps=steps)
    if any(arm.steps == "compute" for arm in resolved.arms):
        steps = training.steps or 1
        compute = matched_compute(run, experiment.pool, recipe, resolved.method, steps=steps)
        select_matched_compute(ctx, selections, draw, compute)
    return replace(experiment, training=training)


def write_plan(experiment: Experiment) -> None:
    """Write settings and plan into run.json, and withdraw the results of another plan.

    It is called once nothing can be refused any more.
    """
    run, resolved, recipe = experiment.ctx.run, experiment.resolved, experiment.recipe
    config = redact_values(recipe.model_dump(mode="json", exclude={"out"}))
    old, evaluated = upgrade_settings(run.section("config")), evaluated_models(run)
    changed = {key for key in {*old, *config} if old.get(key) != config.get(key)} - _ADDING
    if not (old and changed):
        models = experiment.models
        evaluated = [model for model in evaluated if model not in models]
    withdraw_results(run, evaluated)

    selections = resolved.selections
    evidence: dict[str, Any] = {
        "level": recipe.evidence,
        "seeds": list(range(recipe.n_seeds)),
        "arms": [arm.name for arm in resolved.arms],
        "method": resolved.method.text,
        "why": resolved.why,
        "steps": experiment.training.steps,
        "rows": int(run.section("selections")["selected"]["delivered"]),
    }
    # a comparison of one method at one budget has none of these
    more = {
        "budgets": selections.slugs if len(selections.slugs) > 1 else {},
        "methods": {n: m.text for n, m in selections.methods.items() if n != "selected"},
        "matched_on": recipe.matched_on if recipe.matched_on != ["steps"] else [],
        "method_selection": recipe.method_selection if recipe.method_selection != "fixed" else "",
        "variants": {arm.name: arm.of for arm in resolved.arms if arm.of},
    }
    evidence |= {name: value for name, value in more.items() if value}
    run.update(status="running", config=config, evidence=evidence)


def train_and_evaluate(experiment: Experiment, arm: Arm, seed: int) -> None:
    """Train one arm with one seed, unless it is base or weak, and evaluate the model."""
    from pilotfish.models import load

    ctx, training = experiment.ctx, experiment.training
    if arm.trained:
        steps = steps_of(ctx.run, arm, seed, training, len(experiment.pool))
        train_arm(ctx, arm, seed, replace(training, steps=steps))
        model = load(str(ctx.run.root / train_folder(arm.name, seed)))
    else:
        model = training.weak(seed) if arm.name == "weak" else load(training.strong)
    evaluate_arm(ctx, (arm.name, seed), model, experiment.held_out.test, experiment.metric)


class StageTimer:
    """Charges the time of stages that record no cost themselves.

    `timed` counts the time inside it, less what cost events recorded meanwhile, so nothing is
    counted twice. `record` writes the sums down only if some work was done: a command that finds
    everything finished leaves no trace in the ledger.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seconds: dict[tuple[str, str], float] = {}
        self._spent_before, self._worked = run.spent, False
        self._inner = 0.0  # seconds of stages inside the current one

    @contextmanager
    def timed(self, stage: str, name: str) -> Iterator[None]:
        """Charge the time inside to a stage; stages may be nested.

        Args:
            stage: Stage of the ledger.
            name: Name of the cost event.
        """
        start, spent, inner = time.monotonic(), self._run.spent, self._inner
        self._inner = 0.0
        try:
            yield
        finally:
            recorded = self._run.spent - spent
            seconds = max(0.0, time.monotonic() - start - recorded - self._inner)
            self._seconds[stage, name] = self._seconds.get((stage, name), 0.0) + seconds
            self._inner = inner + seconds

    def record(self) -> None:
        """Write the times measured so far as cost events, if any work was done."""
        self._worked = self._worked or self._run.spent > self._spent_before
        if self._worked:
            for (stage, name), seconds in self._seconds.items():
                self._run.cost(stage, name, seconds=seconds)
        self._seconds = {}
