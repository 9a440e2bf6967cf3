"""evaluate: evaluate every arm and seed on the same held-out rows, one line per item."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pilotfish.comparison.arm_names import UNTRAINED, in_order
from pilotfish.config.data import Source
from pilotfish.data import overlap_key, overlap_keys
from pilotfish.data.held_out import store_test_rows, test_rows
from pilotfish.data.run_pool import (
    fingerprint,
    open_run,
    pool_of,
    read_extra_rows,
    source_of_run,
    warn,
)
from pilotfish.errors import DataError, UsageError, need_torch
from pilotfish.experiments.train import train_folder
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Example
from pilotfish.run_context import RunContext
from pilotfish.scoring.weak_model import weak_of_run
from pilotfish.selection.files import refresh, stale
from pilotfish.store import Run, run_lock

if TYPE_CHECKING:
    from pilotfish.models import Loaded

ArmSeed = tuple[str, int]


def evaluate_arm(
    ctx: RunContext, model: ArmSeed, loaded: "Loaded", examples: Sequence[Example], metric: str
) -> None:
    """Evaluate one model into judge/<arm>/seed-<n>.jsonl, or reuse intact results.

    Args:
        ctx: The run that the results become part of.
        model: Arm and seed.
        loaded: The model of that arm and seed.
        examples: The test rows.
        metric: Name of the metric.

    Raises:
        UsageError: The metric does not fit the model.
        DataError: There are no test rows, or two of them share an id.
    """
    from pilotfish.evaluation import METRICS
    from pilotfish.evaluation.accuracy import head_of
    from pilotfish.evaluation.results import EvaluationSet, evaluate_model

    arm, seed = model
    if metric != "accuracy" and head_of(loaded):
        raise UsageError(
            f"the model of {arm} seed {seed} is a classifier, which '{metric}' cannot judge",
            hint="pass --metric accuracy",
        )
    ctx.progress.step(f"judge {arm} seed {seed}", 0, 1)
    start = time.monotonic()
    test = EvaluationSet(examples, fingerprint(examples), tasks_of(ctx.run, examples))
    fresh = evaluate_model(ctx.store, loaded, test, arm=arm, seed=seed, metric=METRICS[metric])
    if not stale(ctx.run, train_folder(arm, seed)):
        refresh(ctx.run, f"judge/{arm}/seed-{seed}")
    if fresh:
        seconds = time.monotonic() - start
        ctx.run.cost("judge", f"{arm} seed {seed}", seconds=seconds, rows=len(examples))
    ctx.progress.step(f"judge {arm} seed {seed}", 1, 1)


def tasks_of(run: Run, examples: Sequence[Example]) -> dict[str, str]:
    """Map example ids to tasks, by the run's task column; {} where the run has none.

    Raises:
        DataError: A row lacks the column.
    """
    column = run.section("test").get("task_column")
    if not column:
        return {}
    for example in examples:
        if example.meta.get(column) in (None, ""):
            known = ", ".join(sorted(example.meta)) or "none"
            raise DataError(
                f"test row '{example.id}' has no column '{column}' with its task "
                f"(other columns: {known})",
                hint="set task_column to a column of the test data, or leave it out",
            )
    return {example.id: str(example.meta[column]) for example in examples}


def trained_models(run: Run) -> list[ArmSeed]:
    """List (arm, seed) of every committed model under train/, in the order of reports."""
    return _arm_seeds(run, "train/*/seed-*/manifest.json", -2)


def evaluated_models(run: Run) -> list[ArmSeed]:
    """List (arm, seed) of every model with results, in the order of reports."""
    return _arm_seeds(run, "judge/**/seed-*.json", -1)


def _arm_seeds(run: Run, pattern: str, seed_part: int) -> list[ArmSeed]:
    paths = [path.relative_to(run.root).with_suffix("").parts for path in run.root.glob(pattern)]
    found = [
        ("/".join(parts[1:seed_part]), int(parts[seed_part].removeprefix("seed-")))
        for parts in paths
    ]
    order = in_order({arm for arm, _ in found})
    return sorted(found, key=lambda model: (order.index(model[0]), model[1]))


def withdraw_results(run: Run, models: Sequence[ArmSeed]) -> None:
    """Withdraw the results of some models. The models stay and can be evaluated again."""
    for arm, seed in models:
        run.store.forget(f"judge/{arm}/seed-{seed}.json")


def models_of(run: Run, arms: Sequence[str] = ()) -> list[ArmSeed]:
    """List every trained model of a run, and the untrained ones named or evaluated before.

    Raises:
        UsageError: There is no trained model, or none of an arm that is named.
    """
    models = trained_models(run)
    if not models:
        raise UsageError(
            f"{run.root} holds no trained model to judge",
            hint=f"pilotfish train {run.root} --strong MODEL",
        )
    models += [model for model in evaluated_models(run) if model[0] in UNTRAINED]
    models += [(arm, 0) for arm in arms if arm in UNTRAINED and (arm, 0) not in models]
    if absent := sorted({*arms} - {arm for arm, _ in models}):
        raise UsageError(
            f"{run.root} holds no model of {', '.join(absent)}",
            hint=f"pilotfish train {run.root} --strong MODEL --arm {','.join(absent)}",
        )
    return [model for model in models if not arms or model[0] in arms]


def model_of(run: Run, arm: str, seed: int) -> "Loaded":
    """Load the model of an arm and seed: weak, untrained strong (base), or trained."""
    if arm == "weak":
        return weak_of_run(run, seed)
    if arm == "base":
        first = train_folder(*trained_models(run)[0])
        return open_model(str(run.store.require(f"{first}/manifest.json")["strong"]))
    run.store.require(f"{train_folder(arm, seed)}/manifest.json")
    return open_model(str(run.root / train_folder(arm, seed)))


def open_model(name: str) -> "Loaded":
    """Load a language model, or a classifier with the classes it was trained for."""
    from pilotfish.models import classes_of, is_classifier, load, load_classifier

    return load_classifier(name, classes_of(name)) if is_classifier(name) else load(name)


def evaluate_run(
    out: str,
    *,
    test: Source | None = None,
    metric: str | None = None,
    arms: Sequence[str] = (),
    force: bool = False,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Evaluate every model of a run, or those of some arms: the command `evaluate`.

    These are all trained models, and of the untrained ones (base, weak) those named or evaluated
    before: results on other rows or by another metric could not be compared.

    Args:
        out: The run folder.
        test: Test rows to store in the run first; None: those of the run.
        metric: Name of the metric; None: that of the run, else the default for the rows.
        arms: Names of arms; empty: all.
        force: Replace other test rows of the run.
        progress: Receives the start and the end of every model.

    Returns:
        The arms of the report.

    Raises:
        UsageError: There are no test rows or no trained models, or the run has other test rows.
    """
    from pilotfish.report import write

    with run_lock(open_run(out).root) as store:
        ctx = RunContext(Run(store.root), progress, force)
        run = ctx.run
        if test:
            add_test_rows(ctx, test, metric)
        examples = test_rows(run)
        known = run.section("test")
        if metric and metric != known["metric"]:
            run.update(test={**known, "metric": metric})
        need_torch("judging")
        for model in models_of(run, arms):
            evaluate_arm(ctx, model, model_of(run, *model), examples, metric or known["metric"])
        report = write(run)
    return [row for row in report["arms"] if not arms or row["name"] in arms]


def add_test_rows(ctx: RunContext, test: Source, metric: str | None = None) -> None:
    """Read test rows and store them in the run, whose lock is held.

    Args:
        ctx: The run.
        test: Where to read. Options that it leaves out are those of the run's pool.
        metric: Name of the metric; None: the default for the rows.

    Raises:
        UsageError: The run has other test rows, and `force` is off.
    """
    from pilotfish.evaluation import default_metric

    run, source = ctx.run, source_of_run(ctx.run)
    mapping = dict(test.mapping or source.mapping)
    source = replace(source, mapping=mapping, max_bad_rate=test.max_bad_rate)
    examples = list(read_extra_rows(source, test.data, limit=test.limit).examples)
    metric = metric or default_metric(examples)[0]
    facts = {"data": test.data, "held_out": "test", "metric": metric}
    store_test_rows(run, examples, facts, force=ctx.force)
    # these rows came after the pool was read, so they could not be kept out of it
    prompts = overlap_keys(examples)
    count = sum(overlap_key(example) in prompts for example in pool_of(run).examples())
    if count:
        warn(run, [f"{count:,} pool rows also stand in the test data, which came after them"])


def write_report(out: str) -> dict[str, Any]:
    """Write report.json and report.html of a run folder, and return the report."""
    from pilotfish.report import write

    with run_lock(open_run(out).root) as store:
        return write(Run(store.root))
