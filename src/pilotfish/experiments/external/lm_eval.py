"""judge --harness: lm-evaluation-harness asks every model of a run; its items make a run folder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.data.run_pool import open_run
from pilotfish.errors import UsageError
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
from pilotfish.experiments.external.compare_files import CompareOptions, folder_of, report_of
from pilotfish.extras import need_torch
from pilotfish.progress import SILENT, Progress
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded


def evaluate_with_lm_eval(
    out: str,
    tasks: Sequence[str],
    *,
    to: str | None = None,
    include_path: str | None = None,
    metric: str | None = None,
    arms: Sequence[str] = (),
    limit: int | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Judge the models of a run on tasks of lm-eval; the report of the folder `to`.

    to: another folder than the run's own (default: RUN-harness), since its items are others.
    include_path: a folder with task files of one's own. metric: where tasks have several, lm-eval's
    `name,filter` too. limit: only the first documents of each task, marked as not comparable.
    A model that was asked the same already is not asked again. MissingExtra without lm-eval.
    """
    need_torch("judging by lm-evaluation-harness", extra="lm-eval")
    run = open_run(out)
    models = models_of(run, arms)
    with folder_of(to or f"{str(run.root).rstrip('/')}-harness") as folder:
        asked = {"tasks": sorted(tasks), "metric": metric, "limit": limit}
        folder.fix("harness", {"run": run.root.resolve().name, **asked}, force=force)
        found: dict[ArmSeed, Imported] = {}
        for model in models:
            progress.step(f"harness {model[0]} seed {model[1]}", 0, 1)
            found[model] = _kept(folder, run, model, asked, include_path, force=force)
            progress.step(f"harness {model[0]} seed {model[1]}", 1, 1)
        check_alike(found)
        return report_of(folder, found, CompareOptions(), {}, force=True, paired=False)


def _kept(
    folder: Run,
    run: Run,
    model: ArmSeed,
    asked: Mapping[str, Any],
    include_path: str | None,
    *,
    force: bool,
) -> Imported:
    """The items of one model, asked now unless the same model was asked the same before."""
    arm, seed = model
    loaded = model_of(run, arm, seed)
    facts = {"model_digest": loaded.digest, "harness": dict(asked)}
    known = folder.store.manifest(f"judge/{arm}/seed-{seed}.json")
    if known is not None and not force and {**known, **facts} == known:
        items = read_imported(folder.store.path(f"judge/{arm}/seed-{seed}.jsonl"))
        return replace(items, limited=bool(asked["limit"]), facts=facts)
    imported = replace(_ask(loaded, asked, include_path), facts=facts)
    keep_imported(folder.store, model, imported, test_fingerprint=fingerprint_of(imported))
    return imported


def _ask(loaded: "Loaded", asked: Mapping[str, Any], include_path: str | None) -> Imported:
    samples = evaluate(loaded, asked["tasks"], limit=asked["limit"], include_path=include_path)
    parts = []
    for task, records in samples.items():
        name, items = items_of(records, task, asked["metric"], task)
        limited = bool(asked["limit"])
        parts.append(Imported(tuple(items), name, name not in LOWER, limited))
    return merged(parts, loaded.name)


def evaluate(
    loaded: "Loaded", tasks: Sequence[str], *, limit: int | None, include_path: str | None
) -> dict[str, Sequence[Mapping[str, Any]]]:
    """{task: lm-eval's samples} of a model as it stands in memory; no interval is drawn there."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    if include_path and not Path(include_path).is_dir():
        raise UsageError(f"there is no folder {include_path}")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = TaskManager(include_path=include_path)
    unknown = [name for name in tasks if name not in manager.all_tasks]
    if unknown:
        raise UsageError(
            f"lm-eval knows no task '{unknown[0]}'",
            hint="name the folder of its yaml file with --include-path",
        )
    told = simple_evaluate(
        model=HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=8),
        tasks=list(tasks), task_manager=manager, limit=limit, bootstrap_iters=0,
        log_samples=True, apply_chat_template=bool(loaded.tokenizer.chat_template),
    )  # fmt: skip
    assert told is not None  # other ranks get nothing, and there are none
    return dict(told["samples"])
