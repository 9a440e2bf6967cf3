"""Before a run starts: which rows, which metric, which method, each decision said aloud."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotfish.config import Gate, Method, Recipe, TrainConfig, parse_method
from pilotfish.errors import UsageError
from pilotfish.flows.arms import Arm
from pilotfish.flows.held_out import hold_out, hold_out_of_pool
from pilotfish.flows.material import check_material
from pilotfish.flows.progress import Progress
from pilotfish.flows.reading import Source, read_beside, warn
from pilotfish.judge.gates import folder_of
from pilotfish.pool import overlap_keys
from pilotfish.records import Example
from pilotfish.selectors import make
from pilotfish.store import Run, Store

DEFAULT = "perplexity(direction=low,end=true)"
WHY = (
    "the default: of the methods compared by benchmarks/default_method.py it found most right rows "
    "in a dirty pool; where the pool is clean, random rows did better"
)


@dataclass(frozen=True)
class Beside:
    """The rows that are not the pool: vouched for, and held out for judging."""

    trusted: Sequence[Example]
    test: Sequence[Example]
    held_out: str  # test | trusted | pool
    dropped: int = 0  # trusted rows that also stand in the test data


def source_of(recipe: Recipe) -> Source:
    """The recipe's reading options."""
    return Source(
        recipe.data,
        mapping=recipe.map,
        limit=recipe.limit,
        max_bad_rate=recipe.max_bad_rate,
        dataset_config=recipe.dataset_config,
        split=recipe.split,
        revision=recipe.revision,
    )


def rows_beside(recipe: Recipe, source: Source) -> Beside:
    """Trusted and test rows: given, or held out of the trusted rows, else of the pool."""
    if recipe.test:
        test = read_beside(source, recipe.test).examples
        if not recipe.trusted:
            return Beside([], test, "test")
        trusted = read_beside(source, recipe.trusted, exclude=overlap_keys(test))
        return Beside(trusted.examples, test, "test", trusted.dropped)
    if recipe.trusted:
        rows = read_beside(source, recipe.trusted).examples
        kept, held = hold_out(rows, min(recipe.test_rows, len(rows) // 3), recipe.seed)
        return Beside(kept, held, "trusted")
    return Beside([], hold_out_of_pool(source, recipe.test_rows, recipe.seed), "pool")


def say_what_is_known(run: Run, beside: Beside) -> None:
    """Warn where the judging rows are weaker evidence than they look."""
    if beside.held_out == "pool":
        warn(run, ["judged on rows held out of the pool: the pool's own noise is in the figures"])
    if beside.held_out == "trusted":
        warn(run, [f"judged on {len(beside.test):,} rows held out of the trusted ones"])
    if beside.dropped:
        warn(run, [f"{beside.dropped:,} trusted rows also stand in the test data: not trained on"])


def the_metric(recipe: Recipe, test: Sequence[Example], progress: Progress) -> str:
    """The metric asked for, or the one that fits the test rows, said aloud."""
    if recipe.metric:
        return recipe.metric
    from pilotfish.judge import default_metric

    metric, why = default_metric(test)
    progress.note(f"metric: {metric} ({why})")
    return metric


def check_losses(recipe: Recipe, arms: Sequence[Arm]) -> None:
    """Refuse, before anything is spent, a loss that is unknown or needs another tokenizer."""
    from pilotfish.losses import make_loss
    from pilotfish.models import load_tokenizer, tokenizer_digest
    from pilotfish.train import unlike_reference, unlike_tokenizers

    plans = [(arm, arm.config(recipe.train)) for arm in arms if arm.trained]
    configs = [config for _, config in plans]
    check_material(plans, trusted=bool(recipe.trusted))
    check_teachers(configs)
    losses = [make_loss(config.loss) for config in configs]
    taught, focus = any("teacher" in loss.needs for loss in losses), any(c.focus for c in configs)
    if taught or focus:
        weak, strong = (tokenizer_digest(load_tokenizer(m)) for m in (recipe.weak, recipe.strong))
        if weak != strong:
            refusal = unlike_tokenizers if taught else unlike_reference
            raise refusal(recipe.weak, recipe.strong)


def check_gates(guards: Mapping[str, Gate], arms: Sequence[str], *, tasks: bool) -> None:
    """Refuse, before anything is spent, a gate whose arm, reference or task will not be there."""
    for name, gate in guards.items():
        if gate.arm not in arms:
            raise UsageError(
                f"the gate '{name}' guards the arm '{gate.arm}', which is not trained",
                hint=f"the arms are {', '.join(arms)}",
            )
        if gate.arm == gate.against:
            raise UsageError(f"the gate '{name}' holds '{gate.arm}' against itself")
        elsewhere = folder_of(arms, gate.against)
        if elsewhere is None and gate.against not in arms:
            raise UsageError(
                f"the gate '{name}' refers to '{gate.against}', which is no arm of this run",
                hint=f"the arms are {', '.join(arms)}; another run is ./FOLDER or FOLDER:ARM",
            )
        if elsewhere and not Path(elsewhere[0]).is_dir():
            raise UsageError(f"the gate '{name}' refers to {elsewhere[0]}, which is no run folder")
        if gate.task is not None and not tasks:
            raise UsageError(
                f"the gate '{name}' guards the task '{gate.task}', and rows name no task",
                hint="set task_column to a column of the test data",
            )


def check_references(
    run: Run, guards: Mapping[str, Gate], arms: Sequence[str], tasks: Collection[str]
) -> None:
    """Refuse, before a model is trained, a gate on a task or against a run that cannot be held.

    UsageError where no test row is of the task, or where nothing of the arm was judged in the other
    run, or other rows or by another metric.
    """
    from pilotfish.judge import load_judged

    test = run.section("test")
    for name, gate in guards.items():
        if gate.task is not None and gate.task not in tasks:
            raise UsageError(
                f"the gate '{name}' guards the task '{gate.task}', and no test row is of it",
                hint=f"the tasks are {', '.join(sorted({*tasks}))}",
            )
        if (elsewhere := folder_of(arms, gate.against)) is None:
            continue
        folder, arm = elsewhere
        other = load_judged(Store(Path(folder)))
        if other is None or arm not in other.results:
            raise UsageError(
                f"the gate '{name}' finds no judged arm '{arm}' in {folder}",
                hint=f"judged there: {', '.join(other.results) if other else 'nothing'}",
            )
        if (other.metric, other.test_fingerprint) != (test["metric"], test["fingerprint"]):
            raise UsageError(
                f"the gate '{name}' refers to {folder}, which was judged by another metric or on "
                "other rows",
                hint="judge both with the same --test and --metric",
            )


def check_teachers(configs: Sequence[TrainConfig]) -> None:
    """Refuse losses that cannot learn from what is to be stored of the teacher."""
    from pilotfish.losses import make_loss
    from pilotfish.train import check_stored

    for config in configs:
        if config.teacher == "cached":
            check_stored(make_loss(config.loss), config.loss, config.teacher_kind)


def the_method(recipe: Recipe) -> tuple[Method, str]:
    """The method asked for, or the default that benchmarks/default_method.py backs."""
    if recipe.method:
        method, why = parse_method(recipe.method), "as asked"
    else:
        method, why = parse_method(DEFAULT), WHY
    make(method, recipe.direction)  # what is spelt wrong is said before anything is spent
    return method, why
