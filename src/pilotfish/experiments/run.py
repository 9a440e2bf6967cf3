"""run: the whole loop, read -> score -> select -> train -> judge -> report, resumable anywhere."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pilotfish import remote_code
from pilotfish.arms.arms import Arm, grid_for
from pilotfish.arms.matched_compute import matched_compute, steps_of
from pilotfish.arms.price import price_lines
from pilotfish.arms.rows import TrainingPlan, seed_stream
from pilotfish.arms.selections import (
    ArmSelections,
    SeedDraw,
    method_of_recipe,
    select_for_seed,
    select_matched_compute,
)
from pilotfish.arms.training_data import check_losses, check_weights, replay_rows
from pilotfish.budget import parse_budget
from pilotfish.comparison.gates import check_gates, check_references
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
from pilotfish.evaluation.default_metric import metric_of_recipe
from pilotfish.experiments.evaluate import (
    ArmSeed,
    evaluate_arm,
    evaluated_models,
    tasks_of,
    withdraw_results,
)
from pilotfish.experiments.train import train_arm, train_folder
from pilotfish.extras import need_torch
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


class StageTimer:
    """Measures what no stage of its own charges for.

    `timed` counts the time spent inside it less what cost events inside it told of, so nothing is
    counted twice. It is written down by `tell`, and only where something was worked on: a command
    that finds all done leaves no trace in the ledger.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._own: dict[tuple[str, str], float] = {}
        self._begun, self._worked = run.spent, False
        self._inside = 0.0  # told or measured inside the stage at hand

    @contextmanager
    def timed(self, stage: str, name: str) -> Iterator[None]:
        """Charge the time inside to `stage`; may stand inside another one."""
        start, spent, inside = time.monotonic(), self._run.spent, self._inside
        self._inside = 0.0
        try:
            yield
        finally:
            took = time.monotonic() - start
            told = self._run.spent - spent
            own = max(0.0, took - told - self._inside)
            self._own[stage, name] = self._own.get((stage, name), 0.0) + own
            self._inside = inside + own

    def tell(self) -> None:
        """Write down what was measured since, if any stage did something by now."""
        self._worked = self._worked or self._run.spent > self._begun
        if self._worked:
            for (stage, name), seconds in self._own.items():
                self._run.cost(stage, name, seconds=seconds)
        self._own = {}


# Settings that say which results there are, and change none of them.
_ADDING = {
    "evidence", "seeds", "arms", "losses", "variants", "margin", "budgets", "methods", "matched_on",
    "method_selection", "gates", "pricing", "canaries",
}  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """Everything one comparison holds fixed while its arms and seeds go by."""

    run: Run
    recipe: Recipe
    pool: Pool
    beside: HeldOutData
    metric: str
    picks: ArmSelections
    why: str  # the verdict's method
    arms: Sequence[Arm]
    training: TrainingPlan
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

    def again(self, seed: int) -> str:
        """What the names of selections of a later seed end with; without tuning seed 0 serves."""
        return f"-{seed}" if self.training.tuned and seed else ""


def run_experiment(
    recipe: Recipe, out: str, *, force: bool = False, progress: Progress = SILENT
) -> Run:
    """Run a recipe into `out`; what is finished and unchanged is kept, the rest is done.

    UsageError, naming what changed, where `out` holds other data, test rows, scores or selections
    (unless `force`); run.json then tells what it told before.
    """
    need_torch("a run", extra="train")
    for budget in recipe.all_budgets:
        parse_budget(budget)
    with run_lock(out) as store, remote_code.allowing(recipe.trust_remote_code):
        # after the lock: a second planner is turned away before torch is loaded
        run = Run(store.root)
        watch = StageTimer(run)
        with watch.timed("read", "rows and settings"):
            from pilotfish.models import count_parameters, set_threads
            from pilotfish.report import write

            set_threads(max(count_parameters(recipe.weak), count_parameters(recipe.strong)))
            experiment = prepare(run, recipe, force, progress)
        with watch.timed("plan", "prices"):
            _say_prices(experiment)
        for seed in range(recipe.n_seeds):
            with watch.timed("draw", f"controls of seed {seed}"):
                experiment = pick_for_seed(experiment, seed, watch)
            for arm in experiment.arms:
                with watch.timed("load", f"{arm.name} seed {seed}"):
                    compare_arm(experiment, arm, seed)
        with watch.timed("report", "page"):
            run.update(status="complete")
        watch.tell()
        with watch.timed("report", "page"):
            write(run)
        watch.tell()
    return run


def prepare(run: Run, recipe: Recipe, force: bool, progress: Progress) -> Experiment:
    """Read every row, decide metric, method and arms, and store the rows to judge on."""
    arms = grid_for(recipe)
    check_losses(recipe, arms)
    check_gates(recipe.gates, [arm.name for arm in arms], tasks=bool(recipe.task_column))
    method, why = method_of_recipe(recipe)
    picks = ArmSelections.of(recipe, method, arms)
    source = source_of_recipe(recipe)
    beside = load_eval_rows(recipe, source)
    exclude = overlap_keys(beside.test)
    pool = open_pool(run, source, exclude=exclude, force=force, progress=progress)
    metric = metric_of_recipe(recipe, beside.test, progress)
    facts = {"data": recipe.test, "held_out": beside.held_out, "metric": metric}
    if recipe.task_column:
        facts["task_column"] = recipe.task_column
    store_test_rows(run, beside.test, facts, force=force)
    tasks = tasks_of(run, beside.test)  # a row without a task is said now
    check_references(run, recipe.gates, [arm.name for arm in arms], tasks.values())
    for data in sorted({arm.config(recipe.train).replay or "" for arm in arms} - {""}):
        replay_rows(run, data, limit=1)  # what cannot be read is said now
    check_weights(pool, [arm.config(recipe.train) for arm in arms if arm.trained])
    warn_weak_evidence(run, beside)
    progress.note(f"method: {method.text} ({why})")
    training = _training(run, recipe, beside, force=force, progress=progress)
    return Experiment(
        run, recipe, pool, beside, metric, picks, why, arms, training, force, progress
    )  # fmt: skip


def _training(
    run: Run, recipe: Recipe, beside: HeldOutData, *, force: bool, progress: Progress
) -> TrainingPlan:
    from pilotfish.models import identify

    def weak(seed: int) -> "Loaded":
        config = ScoreConfig(
            recipe.weak,
            precision=recipe.precision,
            seed=seed,
            stream=seed_stream(recipe.seed, seed),
            weak_train=recipe.weak_train,
        )
        return weak_model(RunContext(run, progress, force), config, beside.trusted)

    return TrainingPlan(
        recipe.strong, identify(recipe.strong), recipe.train, weak, beside.trusted,
        tuned=bool(beside.trusted), seed=recipe.seed,
    )  # fmt: skip


def _say_prices(experiment: Experiment) -> None:
    lines = price_lines(
        experiment.recipe, experiment.pool, experiment.beside, experiment.picks, experiment.metric
    )
    for line in lines:
        experiment.progress.note(line)


def pick_for_seed(experiment: Experiment, seed: int, watch: StageTimer) -> Experiment:
    """Score, select and draw the controls for one seed; without tuning, seed 0 serves all.

    The first one fixes what all share, the number of steps among it.
    """
    run, again = experiment.run, experiment.again(seed)
    context = RunContext(run, force=experiment.force)
    drawn = SeedDraw(seed, experiment.training.stream(seed), again)
    if again or seed == 0:
        known = {*experiment.picks.columns(again)} <= {*run.section("scores")}
        with watch.timed(RESUME if known else "score", "loading the weak model"):
            weak = experiment.training.weak(seed)
        _score(experiment, weak, seed, again)
    select_for_seed(context, experiment.picks, drawn)
    if seed == 0 and experiment.recipe.canary_rows:
        stand = run.section("selections")
        names = [each for each in experiment.picks.with_controls if each in stand]
        reporting = RunContext(run, experiment.progress)
        measure_canaries_in(reporting, names, experiment.recipe.canary_rows)
    experiment = experiment if seed else with_steps(experiment)
    if any(arm.steps == "compute" for arm in experiment.arms):
        compute = matched_compute(
            run, experiment.pool, experiment.recipe, experiment.picks.methods["selected"],
            steps=experiment.training.steps or 1,
        )  # fmt: skip
        select_matched_compute(context, experiment.picks, drawn, compute)
    if seed == 0:
        begin(experiment)
    return experiment


def _score(experiment: Experiment, weak: "Loaded", seed: int, again: str) -> None:
    """All methods in one pass."""
    recipe, training = experiment.recipe, experiment.training
    columns = experiment.picks.columns(again)
    config = ScoreConfig(
        recipe.weak,
        [*columns.values()],
        [*columns],
        direction=recipe.direction,
        trusted=recipe.trusted,
        max_length=recipe.max_length,
        precision=recipe.precision,
        seed=seed,
        stream=training.stream(seed),
    )
    ctx = RunContext(experiment.run, experiment.progress, experiment.force)
    add_scores(ctx, experiment.pool, weak, config)


def with_steps(experiment: Experiment) -> Experiment:
    """The number of optimizer steps comes from the first selection and is equal for every arm."""
    from pilotfish.data_order import plan_steps

    kept = int(experiment.run.section("selections")["selected"]["delivered"])
    steps = plan_steps(kept, experiment.training.config)
    return replace(experiment, training=replace(experiment.training, steps=steps))


def begin(experiment: Experiment) -> None:
    """Once nothing was refused: write down the plan, and withdraw results of another one."""
    run, recipe, picks = experiment.run, experiment.recipe, experiment.picks
    config = redact_values(recipe.model_dump(mode="json", exclude={"out"}))
    withdraw_results(run, _of_another_plan(experiment, config))
    evidence = {
        "level": recipe.evidence,
        "seeds": list(range(recipe.n_seeds)),
        "arms": [arm.name for arm in experiment.arms],
        "method": picks.methods["selected"].text,
        "why": experiment.why,
        "steps": experiment.training.steps,
        "rows": int(run.section("selections")["selected"]["delivered"]),
        **_beyond(experiment),
    }
    run.update(status="running", config=config, evidence=evidence)


def _beyond(experiment: Experiment) -> dict[str, Any]:
    """What a comparison has beyond one method at one budget; nothing where it has not."""
    picks, recipe = experiment.picks, experiment.recipe
    told = {
        "budgets": picks.slugs if len(picks.slugs) > 1 else {},
        "methods": {n: m.text for n, m in picks.methods.items() if n != "selected"},
        "matched_on": recipe.matched_on if recipe.matched_on != ["steps"] else [],
        "method_selection": recipe.method_selection if recipe.method_selection != "fixed" else "",
        "variants": {arm.name: arm.of for arm in experiment.arms if arm.of},
    }
    return {name: value for name, value in told.items() if value}


def _of_another_plan(experiment: Experiment, config: dict[str, Any]) -> list[ArmSeed]:
    """What was judged under other settings, or is no part of this comparison."""
    judged = evaluated_models(experiment.run)
    old = upgrade_settings(experiment.run.section("config"))
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
        training = replace(
            experiment.training,
            steps=steps_of(experiment.run, arm, seed, experiment.training, len(experiment.pool)),
        )
        train_arm(experiment.run, arm, seed, training, progress=experiment.progress)
        loaded = load(str(experiment.run.root / train_folder(arm.name, seed)))
    else:
        loaded = (
            experiment.training.weak(seed) if arm.name == "weak" else load(experiment.recipe.strong)
        )
    evaluate_arm(
        experiment.run, (arm.name, seed), loaded, experiment.beside.test, experiment.metric,
        progress=experiment.progress,
    )  # fmt: skip
