"""train, judge, report and verify on an existing run: the same steps as `run`, one at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilotfish.config import Recipe, TrainConfig, TuneConfig, make_recipe
from pilotfish.errors import DamagedRun, UsageError
from pilotfish.flows.arms import arms_of
from pilotfish.flows.extras import need_torch
from pilotfish.flows.judge import judge, keep_test, test_rows
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.flows.reading import Source, read_beside
from pilotfish.flows.rows import Training, selection_of
from pilotfish.flows.selection import kept_of
from pilotfish.flows.train import train_arm
from pilotfish.pool import overlap_keys
from pilotfish.store import Run, Store, run_lock


def source_of_run(run: Run) -> Source:
    """The reading options the run's pool was made with."""
    facts = dict(run.section("data"))
    if not facts:
        raise UsageError(
            f"{run.root} holds no pool yet",
            hint=f"pilotfish score DATA --weak MODEL --method METHOD --out {run.root}",
        )
    facts.pop("exclude", None)
    return Source(**facts)


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
    """Train arms on the run's selections; returns one dict per model."""
    need_torch("training", extra="train")
    with run_lock(existing(out)) as store:
        from pilotfish.models import count_parameters, settle_threads

        run = Run(store.root)
        source = source_of_run(run)
        known = {arm.name: arm for arm in arms_of("none", trusted=bool(trusted), names=arms)}
        config = _config(overrides, loss)
        asked = overlap_keys(test_rows(run, source)) if run.section("test") else frozenset()
        vouched = read_beside(source, trusted, exclude=asked).examples if trusted else []
        training = Training(
            strong, weak or run.section("weak").get("name", ""), config, vouched,
            precision="auto",
        )  # fmt: skip
        settle_threads(count_parameters(strong))
        training = replace(training, steps=_steps(run, training, known.values()))
        models = []
        for seed in range(seeds):
            for arm in known.values():
                if force:
                    store.forget(f"train/{arm.name}/seed-{seed}/manifest.json")
                train_arm(run, arm, seed, training, progress=progress)
                folder = f"train/{arm.name}/seed-{seed}"
                facts = store.require(f"{folder}/manifest.json")
                models.append(
                    {**facts, "folder": str(run.root / folder), "files": len(facts["files"])}
                )
        run.update(status="trained")
    return models


def tuning(overrides: Sequence[str] | None) -> TuneConfig:
    """The `tune:` settings of `--set tune.a=value`; another setting is refused by name."""
    return _settings(overrides or (), only="tune").tune


def _settings(overrides: Sequence[str], *, only: str) -> Recipe:
    for override in overrides:
        if not override.strip().startswith(f"{only}."):
            raise UsageError(f"--set {override}: this command takes only settings of {only}.")
    return make_recipe({"data": "-", "weak": "-", "strong": "-"}, list(overrides))


def _config(overrides: Sequence[str], loss: str | None) -> TrainConfig:
    """The `train:` settings of `--set train.a=value` and `--loss`."""
    recipe = _settings(overrides, only="train")
    return recipe.train.model_copy(update={"loss": loss}) if loss else recipe.train


def _steps(run: Run, training: Training, arms: Any) -> int:
    """Equal steps for every arm: those of the run's selection, else of the first arm's rows."""
    from pilotfish.train import plan_steps

    fixed = run.section("evidence").get("steps")
    if fixed and training.config == TrainConfig():
        return int(fixed)
    selections = run.section("selections")
    if "selected" in selections:
        return plan_steps(int(selections["selected"]["delivered"]), training.config)
    first = next(iter(arms))
    if first.selection:
        rows = len(kept_of(run, selection_of(first, 0, tuned=False)))
        return plan_steps(rows, training.config)
    return plan_steps(int(run.section("pool")["rows"]), training.config)


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
    """Judge the trained models of a run; returns the arms of the report.

    limit: test records read at most; max_bad_rate: the share of bad ones above which to stop.
    """
    from pilotfish.report import write

    with run_lock(existing(out)) as store:
        run = Run(store.root)
        source = source_of_run(run)
        source = replace(source, mapping=dict(mapping or source.mapping))
        if test:
            asked = replace(source, max_bad_rate=max_bad_rate)
            examples = list(read_beside(asked, test, limit=limit).examples)
            keep_test(run, examples, _test_facts(run, test, metric, examples), force=force)
        examples = test_rows(run, source)
        chosen = metric or str(run.section("test")["metric"])
        judge(run, examples, chosen, arms=[*arms] or None, progress=progress)
        told = write(run)
    return [row for row in told["arms"] if not arms or row["name"] in arms]


def _test_facts(run: Run, test: str, metric: str | None, examples: Sequence[Any]) -> dict[str, Any]:
    from pilotfish.judge import default_metric

    return {"data": test, "held_out": "test", "metric": metric or default_metric(examples)[0]}


def report_stage(out: str) -> dict[str, Any]:
    """Write report.json and report.html from the run's files."""
    from pilotfish.report import write

    with run_lock(existing(out)) as store:
        return write(Run(store.root))


def verify_stage(out: str) -> dict[str, Any]:
    """Rehash every committed file; DamagedRun (exit 6) names all that differ."""
    store = Store(existing(out))
    manifests, files, bad = 0, 0, []
    for path in sorted(store.root.rglob("*.json")):
        rel = str(path.relative_to(store.root))
        if rel.startswith("."):
            continue
        found = store.read_json(rel) if _may_be_manifest(path) else None
        if found is None or not isinstance(found.get("files"), dict):
            continue
        manifests += 1
        files += len(found["files"])
        bad += store.damage(found)
    if bad:
        raise DamagedRun(f"{', '.join(bad)} in {out} differ from their manifests")
    return {"run": out, "manifests": manifests, "files": files, "damaged": []}


def _may_be_manifest(path: Path) -> bool:
    """Manifests start as a JSON object; models' tokenizers do too, but name no `files`."""
    with path.open("rb") as handle:
        return handle.read(1) == b"{"


def existing(out: str) -> str:
    """A folder that is a run, or the sentence that says it is not."""
    if not (Path(out) / "run.json").is_file():
        raise UsageError(
            f"{out} is not a run folder (it holds no run.json)",
            hint="make one with pilotfish run, or pilotfish score --out",
        )
    return out
