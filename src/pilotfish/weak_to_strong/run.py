"""compare: run a weak-to-strong experiment from labelled rows to PGR; resumable anywhere."""

from collections.abc import Sequence
from typing import Any

from pilotfish import remote_code
from pilotfish.config import WeakToStrong
from pilotfish.data.held_out import store_test_rows
from pilotfish.errors import UsageError, need_torch
from pilotfish.experiments.evaluate import evaluated_models, withdraw_results
from pilotfish.progress import SILENT, Progress
from pilotfish.redaction import redact_values
from pilotfish.run_context import RunContext
from pilotfish.store import Run, run_lock
from pilotfish.weak_to_strong.experiment import W2SArm, W2SExperiment, w2s_arms
from pilotfish.weak_to_strong.results import evaluate_w2s_arm, write_results
from pilotfish.weak_to_strong.split import read_split
from pilotfish.weak_to_strong.tasks import Task, task_of
from pilotfish.weak_to_strong.train import train_w2s_arm


def run_weak_to_strong(
    recipe: WeakToStrong, out: str, *, force: bool = False, progress: Progress = SILENT
) -> dict[str, Any]:
    """Run an experiment into a folder. Parts that are finished and unchanged are kept.

    Args:
        recipe: The settings.
        out: The run folder.
        force: Replace an experiment on other rows.
        progress: Receives notes and steps.

    Returns:
        The content of weak_to_strong.json, which the report shows.

    Raises:
        UsageError: `out` holds an experiment on other rows (named), or settings and rows do not
            fit.
        DataError: A part of the rows is not usable for training.
    """
    need_torch("a weak-to-strong experiment", extra="train")
    with run_lock(out) as store, remote_code.allowing(recipe.trust_remote_code):
        from pilotfish.models import count_parameters, set_threads
        from pilotfish.report import write

        ctx = RunContext(Run(store.root), progress, force)
        set_threads(max(count_parameters(recipe.weak), count_parameters(recipe.strong)))
        experiment = prepare(ctx, recipe)
        for seed in range(recipe.seeds):
            for arm in experiment.arms:
                train_w2s_arm(experiment, arm, seed)
                evaluate_w2s_arm(experiment, arm.name, seed)
        found = write_results(experiment)
        ctx.run.update(status="complete")
        write(ctx.run)
    return found


def prepare(ctx: RunContext, recipe: WeakToStrong) -> W2SExperiment:
    """Read and split the rows, decide arms and steps, and write the plan into run.json.

    Settings may change between runs, and results that depend on them are made again. The rows may
    change only with `force`.

    Raises:
        UsageError: The run holds other rows, or settings and rows do not fit.
        DataError: The rows are not usable.
    """
    run, progress = ctx.run, ctx.progress
    progress.note(f"reading {recipe.data}")
    split = read_split(recipe)
    others = [*split.student, *split.validation, *split.test]
    task = task_of(split.weak, others, recipe.train.max_length)
    kind = recipe.labels.kind or task.kinds[0]
    arms = w2s_arms(recipe, task.default_loss(kind))
    check_labels(kind, task, arms)

    # models are read only after all checks that need none
    from pilotfish.data_order import plan_steps
    from pilotfish.models import identify

    steps = plan_steps(len(split.student), recipe.train)
    digests = {"weak": identify(recipe.weak), "strong": identify(recipe.strong)}
    experiment = W2SExperiment(ctx, recipe, split, task, arms, steps, digests)
    run.fix("split", split.facts, force=ctx.force)
    held_out = "test" if recipe.test else "data"
    test = {"data": recipe.test, "held_out": held_out, "metric": task.metric}
    store_test_rows(run, split.test, test, force=ctx.force)
    models = {(arm.name, seed) for arm in arms for seed in range(recipe.seeds)}
    withdraw_results(run, [model for model in evaluated_models(run) if model not in models])
    run.update(
        experiment="weak_to_strong",
        status="running",
        config=redact_values(recipe.model_dump(mode="json", exclude={"out"})),
        arms=[arm.name for arm in arms],
    )
    progress.note(
        f"{len(split.weak):,} rows to train the weak model, {len(split.student):,} to label, "
        f"{len(split.validation):,} for validation, {len(split.test):,} for the test; "
        f"{len(arms)} arms x {recipe.seeds} seeds x {steps} steps"
    )
    return experiment


def check_labels(kind: str, task: Task, arms: Sequence[W2SArm]) -> None:
    """Check that the kind of labels fits the rows and the losses.

    Args:
        kind: soft, hard or consistency.
        task: The task of the rows.
        arms: All arms, with their losses.

    Raises:
        UsageError: They do not fit.
    """
    from pilotfish.losses import make_loss

    if kind not in task.kinds:
        answers = "chosen among classes" if task.classes else "written"
        raise UsageError(
            f"labels.kind is {kind}, but the answers to these rows are {answers}",
            hint=f"set labels.kind to {' or '.join(task.kinds)}",
        )
    if not task.classes or kind == "soft":
        return
    for arm in arms:
        if "teacher" in make_loss(arm.loss).needs:
            raise UsageError(
                f"the arm '{arm.name}' learns from probabilities ({arm.loss}), and labels.kind "
                "is hard",
                hint="set its loss to lm, or labels.kind to soft",
            )
