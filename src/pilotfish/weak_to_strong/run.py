"""compare: a weak-to-strong experiment from labelled rows to PGR, resumable anywhere."""

from collections.abc import Sequence
from typing import Any

from pilotfish import remote_code
from pilotfish.config import WeakToStrong
from pilotfish.data.held_out import store_test_rows
from pilotfish.errors import UsageError
from pilotfish.extras import need_torch
from pilotfish.progress import SILENT, Progress
from pilotfish.redaction import redact_values
from pilotfish.store import Run, run_lock
from pilotfish.weak_to_strong.arms import W2SArm, w2s_arms
from pilotfish.weak_to_strong.evaluate import evaluate_w2s_arm, retire_others
from pilotfish.weak_to_strong.experiment import W2SExperiment
from pilotfish.weak_to_strong.results import write_results
from pilotfish.weak_to_strong.split import read_split
from pilotfish.weak_to_strong.tasks import Task, task_of
from pilotfish.weak_to_strong.train import train_w2s_arm


def run_weak_to_strong(
    recipe: WeakToStrong, out: str, *, force: bool = False, progress: Progress = SILENT
) -> dict[str, Any]:
    """Run the experiment into `out`; finished and unchanged parts are kept, the rest is done.

    Args:
        recipe: The settings.
        out: The run folder.
        force: Whether to go on where `out` holds the experiment of other rows.
        progress: Receives notes and steps.

    Returns:
        The content of weak_to_strong.json, which the report shows.

    Raises:
        UsageError: `out` holds the experiment of other rows (named), or settings and rows do not
            fit each other.
        DataError: A part of the rows cannot be learnt from.
    """
    need_torch("a weak-to-strong experiment", extra="train")
    with run_lock(out) as store, remote_code.allowing(recipe.trust_remote_code):
        from pilotfish.models import count_parameters, set_threads
        from pilotfish.report import write

        run = Run(store.root)
        set_threads(max(count_parameters(recipe.weak), count_parameters(recipe.strong)))
        experiment = prepare(run, recipe, force=force, progress=progress)
        for seed in range(recipe.seeds):
            for arm in experiment.arms:
                train_w2s_arm(experiment, arm, seed)
                evaluate_w2s_arm(experiment, arm.name, seed)
        found = write_results(experiment)
        run.update(status="complete")
        write(run)
    return found


def prepare(run: Run, recipe: WeakToStrong, *, force: bool, progress: Progress) -> W2SExperiment:
    """Read and split the rows, decide arms and steps, and write the plan into run.json.

    Settings may change between runs and redo what depends on them; the rows are fixed, unless
    `force`.
    """
    progress.note(f"reading {recipe.data}")
    split = read_split(recipe)
    others = [*split.student, *split.validation, *split.test]
    task = task_of(split.weak, others, recipe.train.max_length)
    kind = recipe.labels.kind or task.kinds[0]
    arms = w2s_arms(recipe, task.default_loss(kind))
    check_labels(kind, task, arms)

    # after everything that is refused without a model
    from pilotfish.data_order import plan_steps
    from pilotfish.models import identify

    steps = plan_steps(len(split.student), recipe.train)
    digests = {"weak": identify(recipe.weak), "strong": identify(recipe.strong)}
    experiment = W2SExperiment(run, recipe, split, task, arms, steps, digests, progress)
    run.fix("split", split.facts, force=force)
    held_out = "test" if recipe.test else "data"
    test = {"data": recipe.test, "held_out": held_out, "metric": task.metric}
    store_test_rows(run, split.test, test, force=force)
    retire_others(experiment)
    run.update(
        experiment="weak_to_strong",
        status="running",
        config=redact_values(recipe.model_dump(mode="json", exclude={"out"})),
        arms=[arm.name for arm in arms],
    )
    progress.note(
        f"{len(split.weak):,} rows teach the weak model, {len(split.student):,} it labels, "
        f"{len(split.validation):,} validate, {len(split.test):,} are judged; "
        f"{len(arms)} arms x {recipe.seeds} seeds x {steps} steps"
    )
    return experiment


def check_labels(kind: str, task: Task, arms: Sequence[W2SArm]) -> None:
    """Refuse labels that the rows cannot have, and losses that such labels do not serve.

    Raises:
        UsageError: Kind, rows and losses do not fit each other.
    """
    from pilotfish.losses import make_loss

    if kind not in task.kinds:
        answers = "chosen among classes" if task.classes else "written"
        raise UsageError(
            f"labels.kind is {kind}, but the answers to these rows are {answers}",
            hint=f"take {' or '.join(task.kinds)}",
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
