"""judge: every arm and seed answers the same held-out rows; one line per item."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilotfish.errors import DataError, UsageError
from pilotfish.flows.extras import need_torch
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.flows.reading import fingerprint
from pilotfish.flows.selection import freshen, stale
from pilotfish.flows.train import train_folder
from pilotfish.flows.weak import weak_of_run
from pilotfish.judge.arms import UNTRAINED, in_order
from pilotfish.records import Example
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded

ArmSeed = tuple[str, int]


def judge_arm(
    run: Run,
    model: ArmSeed,
    loaded: "Loaded",
    examples: Sequence[Example],
    metric: str,
    *,
    progress: Progress = SILENT,
) -> None:
    """Judge one arm and seed into judge/<arm>/seed-<n>.jsonl, or reuse intact results."""
    from pilotfish.judge import METRICS
    from pilotfish.judge.accuracy import head_of
    from pilotfish.judge.files import judge_model

    arm, seed = model
    if metric != "accuracy" and head_of(loaded):
        raise UsageError(
            f"the model of {arm} seed {seed} is a classifier, which '{metric}' cannot judge",
            hint="judge with --metric accuracy",
        )
    progress.step(f"judge {arm} seed {seed}", 0, 1)
    start = time.monotonic()
    fresh = judge_model(
        run.store, loaded, examples, arm=arm, seed=seed, metric=METRICS[metric],
        test_fingerprint=fingerprint(examples), tasks=tasks_of(run, examples),
    )  # fmt: skip
    if not stale(run, train_folder(arm, seed)):
        freshen(run, f"judge/{arm}/seed-{seed}")
    if fresh:
        run.cost(
            "judge", f"{arm} seed {seed}", seconds=time.monotonic() - start, rows=len(examples)
        )
    progress.step(f"judge {arm} seed {seed}", 1, 1)


def tasks_of(run: Run, examples: Sequence[Example]) -> dict[str, str]:
    """Example id -> its task, by the column that the run was told names it; {} without one.

    DataError for a row that lacks the column.
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
    """(arm, seed) of every committed model under train/, in the order of reports."""
    return _found(run, "train/*/seed-*/manifest.json", -2)


def judged_models(run: Run) -> list[ArmSeed]:
    """(arm, seed) of everything judged, in the order of reports."""
    return _found(run, "judge/**/seed-*.json", -1)


def _found(run: Run, pattern: str, place: int) -> list[ArmSeed]:
    paths = [path.relative_to(run.root).with_suffix("").parts for path in run.root.glob(pattern)]
    found = [("/".join(parts[1:place]), int(parts[place].removeprefix("seed-"))) for parts in paths]
    order = in_order({arm for arm, _ in found})
    return sorted(found, key=lambda model: (order.index(model[0]), model[1]))


def retire(run: Run, models: Sequence[ArmSeed]) -> None:
    """Withdraw judged results: models stay, and are judged again when they are wanted again."""
    for arm, seed in models:
        run.store.forget(f"judge/{arm}/seed-{seed}.json")


def judge(
    run: Run,
    examples: Sequence[Example],
    metric: str,
    *,
    arms: Sequence[str] = (),
    progress: Progress = SILENT,
) -> None:
    """Judge every model of a run, or those of the arms named.

    All trained ones, and of the untrained ones (base, weak) those named or judged before: what was
    judged on other rows or by another metric could not be compared.
    """
    need_torch("judging")
    for model in models_of(run, arms):
        judge_arm(run, model, model_of(run, *model), examples, metric, progress=progress)


def models_of(run: Run, arms: Sequence[str] = ()) -> list[ArmSeed]:
    """Every trained model of a run, and the untrained ones named or judged before.

    UsageError where there is none, or none of an arm that is named.
    """
    models = trained_models(run)
    if not models:
        raise UsageError(
            f"{run.root} holds no trained model to judge",
            hint=f"pilotfish train {run.root} --strong MODEL",
        )
    models += [model for model in judged_models(run) if model[0] in UNTRAINED]
    models += [(arm, 0) for arm in arms if arm in UNTRAINED and (arm, 0) not in models]
    if absent := sorted({*arms} - {arm for arm, _ in models}):
        raise UsageError(
            f"{run.root} holds no model of {', '.join(absent)}",
            hint=f"pilotfish train {run.root} --strong MODEL --arm {','.join(absent)}",
        )
    return [model for model in models if not arms or model[0] in arms]


def model_of(run: Run, arm: str, seed: int) -> "Loaded":
    """The model of an arm and seed: the weak one, the strong one untouched, or a trained one."""
    if arm == "weak":
        return weak_of_run(run, seed)
    if arm == "base":
        return open_model(_strong(run))
    run.store.require(f"{train_folder(arm, seed)}/manifest.json")
    return open_model(str(run.root / train_folder(arm, seed)))


def open_model(name: str) -> "Loaded":
    """A language model, or a classifier of the classes it was trained for."""
    from pilotfish.models import classes_of, is_classifier, load, load_classifier

    return load_classifier(name, classes_of(name)) if is_classifier(name) else load(name)


def _strong(run: Run) -> str:
    """The strong model as it came, by the name the run's models were trained from."""
    first = train_folder(*trained_models(run)[0])
    return str(run.store.require(f"{first}/manifest.json")["strong"])
