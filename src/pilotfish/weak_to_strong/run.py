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
from pilotfish.weak_to_strong.arms import W2sArm, w2s_arms
from pilotfish.weak_to_strong.evaluate import judge_w2s_arm, retire_others
from pilotfish.weak_to_strong.experiment import Lab
from pilotfish.weak_to_strong.results import write_result
from pilotfish.weak_to_strong.split import split_of
from pilotfish.weak_to_strong.tasks import Task, task_of
from pilotfish.weak_to_strong.train import train_w2s_arm


def weak_to_strong(
    recipe: WeakToStrong, out: str, *, force: bool = False, progress: Progress = SILENT
) -> dict[str, Any]:
    """Run the experiment into `out`; what is finished and unchanged is kept, the rest is done.

    Returns what weak_to_strong.json and the report say. UsageError, naming what changed, where
    `out` holds the experiment of other rows (unless `force`).
    """
    need_torch("a weak-to-strong experiment", extra="train")
    with run_lock(out) as store, remote_code.allowing(recipe.trust_remote_code):
        from pilotfish.models import count_parameters, set_threads
        from pilotfish.report import write

        run = Run(store.root)
        set_threads(max(count_parameters(recipe.weak), count_parameters(recipe.strong)))
        lab = open_lab(run, recipe, force=force, progress=progress)
        for seed in range(recipe.seeds):
            for arm in lab.arms:
                train_w2s_arm(lab, arm, seed)
                judge_w2s_arm(lab, arm.name, seed)
        found = write_result(lab)
        run.update(status="complete")
        write(run)
    return found


def open_lab(run: Run, recipe: WeakToStrong, *, force: bool, progress: Progress) -> Lab:
    """Read and split the rows, settle arms and steps, and write down the plan."""
    progress.note(f"reading {recipe.data}")
    split = split_of(recipe)
    others = [*split.student, *split.validation, *split.test]
    task = task_of(split.weak, others, recipe.train.max_length)
    kind = recipe.labels.kind or task.kinds[0]
    check_kind(kind, task)
    arms = w2s_arms(recipe, task.loss(kind))
    check_soft(arms, kind, task)

    # after all that is refused without a model
    from pilotfish.data_order import plan_steps
    from pilotfish.models import identify

    steps = plan_steps(len(split.student), recipe.train)
    digests = {"weak": identify(recipe.weak), "strong": identify(recipe.strong)}
    lab = Lab(run, recipe, split, task, arms, steps, digests, progress)
    _write_plan(lab, force=force)
    progress.note(
        f"{len(split.weak):,} rows teach the weak model, {len(split.student):,} it labels, "
        f"{len(split.validation):,} validate, {len(split.test):,} are judged; "
        f"{len(arms)} arms x {recipe.seeds} seeds x {steps} steps"
    )
    return lab


def check_kind(kind: str, task: Task) -> None:
    """UsageError for labels that such rows cannot have."""
    if kind not in task.kinds:
        asks = "chosen among classes" if task.classes else "written"
        raise UsageError(
            f"labels.kind is {kind}, but the answers to these rows are {asks}",
            hint=f"take {' or '.join(task.kinds)}",
        )


def check_soft(arms: Sequence[W2sArm], kind: str, task: Task) -> None:
    """UsageError for a loss that learns a distribution over classes, where labels are hard."""
    from pilotfish.losses import make_loss

    if not task.classes or kind == "soft":
        return
    for arm in arms:
        if "teacher" in make_loss(arm.loss).needs:
            raise UsageError(
                f"the arm '{arm.name}' learns from probabilities ({arm.loss}), and labels.kind "
                "is hard",
                hint="set its loss to lm, or labels.kind to soft",
            )


def _write_plan(lab: Lab, *, force: bool) -> None:
    """run.json: the rows are fixed; settings may change, and redo what hangs on them."""
    run, recipe = lab.run, lab.recipe
    run.fix("split", lab.split.facts, force=force)
    held = "test" if recipe.test else "data"
    facts = {"data": recipe.test, "held_out": held, "metric": lab.task.metric}
    store_test_rows(run, lab.split.test, facts, force=force)
    retire_others(lab)
    run.update(
        experiment="weak_to_strong",
        status="running",
        config=redact_values(recipe.model_dump(mode="json", exclude={"out"})),
        arms=[arm.name for arm in lab.arms],
    )
