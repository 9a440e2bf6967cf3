"""judge: evaluate every arm and seed on the same held-out rows; one line per item."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pilotfish.comparison.arm_names import UNTRAINED, in_order
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
from pilotfish.errors import DataError, UsageError
from pilotfish.experiments.train import train_folder
from pilotfish.extras import need_torch
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Example
from pilotfish.scoring.weak_model import weak_of_run
from pilotfish.selection.files import refresh, stale
from pilotfish.store import Run, run_lock

if TYPE_CHECKING:
    from pilotfish.models import Loaded

ArmSeed = tuple[str, int]


def evaluate_arm(
    run: Run,
    model: ArmSeed,
    loaded: "Loaded",
    examples: Sequence[Example],
    metric: str,
    *,
    progress: Progress = SILENT,
) -> None:
    """Evaluate one model into judge/<arm>/seed-<n>.jsonl, or reuse intact results.

    Args:
        run: The run that the results become part of.
        model: Arm and seed.
        loaded: The model of that arm and seed.
        examples: The test rows.
        metric: Name of the metric.
        progress: Receives the start and the end.

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
            hint="judge with --metric accuracy",
        )
    progress.step(f"judge {arm} seed {seed}", 0, 1)
    start = time.monotonic()
    test = EvaluationSet(examples, fingerprint(examples), tasks_of(run, examples))
    fresh = evaluate_model(run.store, loaded, test, arm=arm, seed=seed, metric=METRICS[metric])
    if not stale(run, train_folder(arm, seed)):
        refresh(run, f"judge/{arm}/seed-{seed}")
    if fresh:
        run.cost(
            "judge", f"{arm} seed {seed}", seconds=time.monotonic() - start, rows=len(examples)
        )
    progress.step(f"judge {arm} seed {seed}", 1, 1)


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
                f"test row '{example.id}' has no column '{column}' to name its task "
                f"(columns left over: {known})",
                hint="set task_column to a column of the test data, or leave it out",
            )
    return {example.id: str(example.meta[column]) for example in examples}


def trained_models(run: Run) -> list[ArmSeed]:
    """List (arm, seed) of every committed model under train/, in the order of reports."""
    return _found(run, "train/*/seed-*/manifest.json", -2)


def evaluated_models(run: Run) -> list[ArmSeed]:
    """List (arm, seed) of every model with results, in the order of reports."""
    return _found(run, "judge/**/seed-*.json", -1)


def _found(run: Run, pattern: str, place: int) -> list[ArmSeed]:
    paths = [path.relative_to(run.root).with_suffix("").parts for path in run.root.glob(pattern)]
    found = [("/".join(parts[1:place]), int(parts[place].removeprefix("seed-"))) for parts in paths]
    order = in_order({arm for arm, _ in found})
    return sorted(found, key=lambda model: (order.index(model[0]), model[1]))


def withdraw_results(run: Run, models: Sequence[ArmSeed]) -> None:
    """Withdraw results; the models stay, and are evaluated again when they are wanted again."""
    for arm, seed in models:
        run.store.forget(f"judge/{arm}/seed-{seed}.json")


def evaluate_models(
    run: Run,
    examples: Sequence[Example],
    metric: str,
    *,
    arms: Sequence[str] = (),
    progress: Progress = SILENT,
) -> None:
    """Evaluate every model of a run, or those of the arms named.

    These are all trained ones, and of the untrained ones (base, weak) those named or evaluated
    before: results on other rows or by another metric could not be compared.

    Args:
        run: The run with the models.
        examples: The test rows.
        metric: Name of the metric.
        arms: Names of arms; empty: all.
        progress: Receives the start and the end of every model.

    Raises:
        UsageError: There is no trained model, or none of an arm that is named.
    """
    need_torch("judging")
    for model in models_of(run, arms):
        evaluate_arm(run, model, model_of(run, *model), examples, metric, progress=progress)


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
    test: str | None = None,
    metric: str | None = None,
    arms: Sequence[str] = (),
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_bad_rate: float = 0.01,
    force: bool = False,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Judge the models of a run; returns the arms of the report.

    limit: test records read at most; max_bad_rate: the share of bad ones above which to stop.
    """
    from pilotfish.report import write

    with run_lock(open_run(out).root) as store:
        run = Run(store.root)
        if test:
            add_test_rows(
                run, test, metric=metric, mapping=mapping, limit=limit, max_bad_rate=max_bad_rate,
                force=force,
            )  # fmt: skip
        examples = test_rows(run)
        known = run.section("test")
        if metric and metric != known["metric"]:
            run.update(test={**known, "metric": metric})
        evaluate_models(run, examples, metric or str(known["metric"]), arms=arms, progress=progress)
        told = write(run)
    return [row for row in told["arms"] if not arms or row["name"] in arms]


def add_test_rows(
    run: Run,
    test: str,
    *,
    metric: str | None = None,
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_bad_rate: float = 0.01,
    force: bool = False,
) -> None:
    """Read test rows and keep them with the run (the caller holds its lock)."""
    source = source_of_run(run)
    mapped = dict(mapping or source.mapping)
    asked = replace(source, mapping=mapped, max_bad_rate=max_bad_rate)
    examples = list(read_extra_rows(asked, test, limit=limit).examples)
    store_test_rows(run, examples, _test_facts(test, metric, examples), force=force)
    _say_overlap(run, examples)


def _test_facts(test: str, metric: str | None, examples: Sequence[Example]) -> dict[str, Any]:
    from pilotfish.evaluation import default_metric

    return {"data": test, "held_out": "test", "metric": metric or default_metric(examples)[0]}


def _say_overlap(run: Run, examples: Sequence[Example]) -> None:
    """Test rows that came after the pool was read could not be kept out of it."""
    asked = overlap_keys(examples)
    count = sum(overlap_key(example) in asked for example in pool_of(run).examples())
    if count:
        warn(run, [f"{count:,} pool rows also stand in the test data, which came after them"])


def write_report(out: str) -> dict[str, Any]:
    """Write report.json and report.html from the run's files."""
    from pilotfish.report import write

    with run_lock(open_run(out).root) as store:
        return write(Run(store.root))
