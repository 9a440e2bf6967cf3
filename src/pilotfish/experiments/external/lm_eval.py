"""evaluate --harness: evaluate the models of a run by lm-evaluation-harness."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.data.run_pool import open_run
from pilotfish.errors import UsageError, need_torch
from pilotfish.evaluation.import_results import (
    ArmSeed,
    Imported,
    check_alike,
    fingerprint_of,
    keep_imported,
    merged,
    read_imported,
)
from pilotfish.evaluation.lm_eval_samples import LOWER, items_of
from pilotfish.experiments.evaluate import model_of, models_of
from pilotfish.experiments.external.compare import CompareOptions, folder_of, report_imported
from pilotfish.progress import SILENT, Progress
from pilotfish.run_context import RunContext

if TYPE_CHECKING:
    from pilotfish.models import Loaded


@dataclass(frozen=True)
class LmEvalConfig:
    """Tasks of lm-eval.

    Attributes:
        tasks: Names of the tasks.
        metric: Metric of tasks with several, as `name` or `name,filter`; None: the only one.
        limit: First documents of each task that are used; such results are marked as not
            comparable. None: all.
        include_path: Folder with further task files.
    """

    tasks: Sequence[str]
    metric: str | None = None
    limit: int | None = None
    include_path: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The settings that decide the items."""
        return {"tasks": sorted(self.tasks), "metric": self.metric, "limit": self.limit}


def evaluate_with_lm_eval(
    out: str,
    config: LmEvalConfig,
    *,
    to: str | None = None,
    arms: Sequence[str] = (),
    force: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Evaluate the models of a run on tasks of lm-eval, into a run folder of its own.

    A model with results for the same settings is not evaluated again.

    Args:
        out: The run folder with the models.
        config: Tasks and metric.
        to: Folder for the results; None: RUN-harness.
        arms: Names of arms; empty: all.
        force: Replace results of other settings.
        progress: Receives the start and the end of every model.

    Returns:
        The report of the folder `to`.

    Raises:
        MissingExtra: lm-eval is not installed.
        UsageError: A task or an arm is unknown, or `to` holds results of other settings.
    """
    need_torch("judging by lm-evaluation-harness", extra="lm-eval")
    run = open_run(out)
    models = models_of(run, arms)
    with folder_of(to or f"{str(run.root).rstrip('/')}-harness") as folder:
        settings = {"run": run.root.resolve().name, **config.facts}
        folder.fix("harness", settings, force=force)
        found: dict[ArmSeed, Imported] = {}
        for arm, seed in models:
            progress.step(f"harness {arm} seed {seed}", 0, 1)
            loaded = model_of(run, arm, seed)
            context = RunContext(folder, progress, force)
            found[arm, seed] = _evaluate_or_read(context, (arm, seed), loaded, config)
            progress.step(f"harness {arm} seed {seed}", 1, 1)
        check_alike(found)
        context = RunContext(folder, progress, force=True)
        return report_imported(context, found, CompareOptions(), {}, paired=False)


def _evaluate_or_read(
    ctx: RunContext, model: ArmSeed, loaded: "Loaded", config: LmEvalConfig
) -> Imported:
    """Evaluate one model, or read its items if its weights and the settings are unchanged."""
    arm, seed = model
    facts = {"model_digest": loaded.digest, "harness": config.facts}
    known = ctx.store.manifest(f"judge/{arm}/seed-{seed}.json")
    if known is not None and not ctx.force and {**known, **facts} == known:
        items = read_imported(ctx.store.path(f"judge/{arm}/seed-{seed}.jsonl"))
        return replace(items, limited=bool(config.limit), facts=facts)
    parts = []
    for task, records in run_tasks(loaded, config).items():
        name, items_of_task = items_of(records, task, config.metric, task)
        limited, higher_is_better = bool(config.limit), name not in LOWER
        parts.append(Imported(tuple(items_of_task), name, higher_is_better, limited))
    imported = replace(merged(parts, loaded.name), facts=facts)
    keep_imported(ctx.store, model, imported, test_fingerprint=fingerprint_of(imported))
    return imported


def run_tasks(loaded: "Loaded", config: LmEvalConfig) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Run lm-eval on a model in memory, and return its samples by task.

    Raises:
        UsageError: A task is unknown, or the folder of task files does not exist.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    if config.include_path and not Path(config.include_path).is_dir():
        raise UsageError(
            f"there is no folder {config.include_path}", hint="name a folder with --include-path"
        )
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = TaskManager(include_path=config.include_path)
    tasks = sorted(config.tasks)
    unknown = [name for name in tasks if name not in manager.all_tasks]
    if unknown:
        raise UsageError(
            f"lm-eval knows no task '{unknown[0]}'",
            hint="name the folder of its yaml file with --include-path",
        )
    results = simple_evaluate(
        model=HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=8),
        tasks=list(tasks), task_manager=manager, limit=config.limit, bootstrap_iters=0,
        log_samples=True, apply_chat_template=bool(loaded.tokenizer.chat_template),
    )  # fmt: skip
    assert results is not None  # ranks other than the first get nothing; here is one rank
    return dict(results["samples"])
