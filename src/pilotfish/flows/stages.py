"""train, judge and report on an existing run: the same steps as `run`, one at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pilotfish.config import Recipe, TrainConfig, TuneConfig, make_recipe
from pilotfish.errors import UsageError
from pilotfish.flows.arms import Arm, arms_of
from pilotfish.flows.compute import steps_of
from pilotfish.flows.extras import need_torch
from pilotfish.flows.held_out import keep_test, known_test, test_rows
from pilotfish.flows.judge import judge
from pilotfish.flows.material import as_oracle, check_material
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.flows.reading import existing, pool_of, read_beside, source_of_run, warn
from pilotfish.flows.rows import Training, selection_of
from pilotfish.flows.selection import kept_of
from pilotfish.flows.setup import check_teachers
from pilotfish.flows.together import follow, follows, leading
from pilotfish.flows.train import forget_checkpoints, train_arm, train_folder
from pilotfish.flows.weak import weak_of_run
from pilotfish.pool import overlap_key, overlap_keys
from pilotfish.records import Example
from pilotfish.store import Run, Store, run_lock

if TYPE_CHECKING:
    from pilotfish.models import Loaded


def train_stage(
    out: str,
    strong: str,
    *,
    arms: Sequence[str],
    loss: str | None = None,
    weak: str | None = None,
    trusted: str | None = None,
    seeds: int = 1,
    overrides: Sequence[str] = (),
    force: bool = False,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Train arms on the run's selections; returns one dict per model.

    Settings are those of the run's recipe where it has one, with `overrides` laid on top. Under
    torchrun all processes train together, and all but the first return nothing.
    """
    need_torch("training", extra="train")
    if follows():
        follow()
        return []
    with run_lock(existing(out).root) as store, leading():
        from pilotfish.models import count_parameters, settle_threads

        run = Run(store.root)
        chosen = _arms(arms, trusted=bool(trusted or run.section("weak").get("trusted")))
        config = train_config(run, overrides, loss)
        chosen = [as_oracle(arm, config) for arm in chosen]
        check_teachers([arm.config(config) for arm in chosen])
        asks = any(arm.trusted for arm in chosen) or isinstance(config.learning_rate, list)
        rows = _trusted(run, trusted) if asks or config.stop != "none" else ()
        check_material([(arm, config) for arm in chosen], trusted=bool(rows))
        training = _training(run, strong, config, weak=weak, trusted=rows)
        settle_threads(count_parameters(strong))
        training = replace(training, steps=_steps(run, training, chosen[0]))
        models = [(arm, seed) for seed in range(seeds) for arm in chosen]
        for arm, seed in models:
            if force:
                store.forget(f"{train_folder(arm.name, seed)}/manifest.json")
                forget_checkpoints(run, train_folder(arm.name, seed))
            steps = steps_of(run, arm, seed, training, len(pool_of(run)))
            train_arm(run, arm, seed, replace(training, steps=steps), progress=progress)
        run.update(status="trained")
        return [_told(store, train_folder(arm.name, seed)) for arm, seed in models]


def _arms(names: Sequence[str], *, trusted: bool) -> list[Arm]:
    arms = arms_of("none", trusted=trusted, names=names)
    if untrained := [arm.name for arm in arms if not arm.trained]:
        raise UsageError(
            f"nothing is trained for the arm {', '.join(untrained)}: it is judged as it is",
            hint=f"pilotfish judge RUN --arm {','.join(untrained)}",
        )
    return arms


def tuning(overrides: Sequence[str] | None) -> TuneConfig:
    """The `tune:` settings of `--set tune.a=value`; another setting is refused by name."""
    return _settings(overrides or (), only="tune").tune


def _settings(overrides: Sequence[str], *, only: str, **known: Any) -> Recipe:
    for override in overrides:
        if not override.strip().startswith(f"{only}."):
            raise UsageError(
                f"--set {override}: this command takes only settings of {only}.",
                hint=f"write --set {only}.NAME=VALUE",
            )
    return make_recipe({"data": "-", "weak": "-", "strong": "-", **known}, list(overrides))


def train_config(run: Run, overrides: Sequence[str], loss: str | None = None) -> TrainConfig:
    """The recipe's `train:` settings with `--set train.a=value` and `--loss` laid on top."""
    known = run.section("config").get("train", {})
    recipe = _settings(overrides, only="train", train=known)
    return recipe.train.model_copy(update={"loss": loss}) if loss else recipe.train


def _trusted(run: Run, data: str | None) -> Sequence[Example]:
    """The trusted rows given, else those the weak model was tuned on; none that is judged on."""
    vouched = data or run.section("weak").get("trusted")
    if not vouched:
        return ()
    asked = overlap_keys(known_test(run))
    return read_beside(source_of_run(run), vouched, exclude=asked).examples


def _training(
    run: Run,
    strong: str,
    config: TrainConfig,
    *,
    weak: str | None,
    trusted: Sequence[Example],
) -> Training:
    from pilotfish.models import identify, load

    def teacher(seed: int) -> "Loaded":
        return load(weak) if weak else weak_of_run(run, seed)

    return Training(
        strong, identify(strong), config, teacher, trusted,
        tuned=bool(run.section("weak").get("trusted")),
        seed=int(run.section("config").get("seed", 0)),
    )  # fmt: skip


def _steps(run: Run, training: Training, first: Arm) -> int:
    """Equal steps for every arm: those of the run's selection, else of the first arm's rows."""
    from pilotfish.train import plan_steps
    from pilotfish.train.parallel import world

    selections = run.section("selections")
    if "selected" in selections:
        rows = int(selections["selected"]["delivered"])
    elif first.rows == "selection":
        rows = len(kept_of(run, selection_of(run, first, 0, tuned=False)))
    else:
        rows = len(training.trusted) if first.rows == "none" else len(pool_of(run))
    return plan_steps(rows, training.config, world=world())


def _told(store: Store, folder: str) -> dict[str, Any]:
    facts = store.require(f"{folder}/manifest.json")
    return {**facts, "folder": str(store.root / folder), "files": len(facts["files"])}


def judge_stage(
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

    with run_lock(existing(out).root) as store:
        run = Run(store.root)
        if test:
            take_test(
                run, test, metric=metric, mapping=mapping, limit=limit, max_bad_rate=max_bad_rate,
                force=force,
            )  # fmt: skip
        examples = test_rows(run)
        known = run.section("test")
        if metric and metric != known["metric"]:
            run.update(test={**known, "metric": metric})
        judge(run, examples, metric or str(known["metric"]), arms=arms, progress=progress)
        told = write(run)
    return [row for row in told["arms"] if not arms or row["name"] in arms]


def take_test(
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
    examples = list(read_beside(asked, test, limit=limit).examples)
    keep_test(run, examples, _test_facts(test, metric, examples), force=force)
    _say_overlap(run, examples)


def _test_facts(test: str, metric: str | None, examples: Sequence[Example]) -> dict[str, Any]:
    from pilotfish.judge import default_metric

    return {"data": test, "held_out": "test", "metric": metric or default_metric(examples)[0]}


def _say_overlap(run: Run, examples: Sequence[Example]) -> None:
    """Test rows that came after the pool was read could not be kept out of it."""
    asked = overlap_keys(examples)
    count = sum(overlap_key(example) in asked for example in pool_of(run).examples())
    if count:
        warn(run, [f"{count:,} pool rows also stand in the test data, which came after them"])


def report_stage(out: str) -> dict[str, Any]:
    """Write report.json and report.html from the run's files."""
    from pilotfish.report import write

    with run_lock(existing(out).root) as store:
        return write(Run(store.root))
