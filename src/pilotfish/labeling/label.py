"""`label`: a weak model writes the answers of a pool, and filters decide which of them are kept."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from pilotfish.config import LabelConfig, Recipe
from pilotfish.data import Pool, overlap_key, overlap_keys
from pilotfish.data.held_out import source_of_recipe, stored_test_rows
from pilotfish.data.run_pool import (
    fingerprint,
    is_run,
    open_pool,
    pool_of,
    read_extra_rows,
    recorded_source,
)
from pilotfish.errors import UsageError, need_torch
from pilotfish.labeling.files import read_labels, write_labels
from pilotfish.labeling.filtering import (
    Filtered,
    apply_filters,
    check_filters,
    is_own_answer,
    own_answers,
    predict_trusted,
)
from pilotfish.labeling.filters import Candidates, make_refill
from pilotfish.labeling.labellers import Labellers, student_labellers, weak_labellers
from pilotfish.labeling.predict import LabelPredictions
from pilotfish.labeling.settings import LabelTask, resolve_config
from pilotfish.labeling.shards import predict_pool
from pilotfish.labeling.table import OK, Labels
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Example
from pilotfish.run_context import RunContext
from pilotfish.store import Run, run_lock

_NAME = re.compile(r"(?!seed-|raw$|models$)[A-Za-z0-9][\w.\-]{0,127}", re.ASCII)


@dataclass(frozen=True)
class Labelled:
    """Finished labels of a run.

    Attributes:
        run: The run.
        name: Name of the labels.
        facts: As in run.json: counts, agreement, classes, sentences about the models, ...
    """

    run: Run
    name: str
    facts: Mapping[str, Any]

    @property
    def labels(self) -> Labels:
        """All rows of the pool, read from disk."""
        return read_labels(self.run, self.name)


def label(
    recipe: Recipe,
    config: LabelConfig,
    out: str,
    *,
    name: str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Labelled:
    """Label DATA, or the pool of a run; commit RUN/labels/<name>.parquet and .jsonl.

    The same call again reuses what is there; after an interruption it redoes missing shards only.

    Args:
        recipe: Names the data, how it is read, the trusted rows and the weak model, and holds the
            `weak_train:` and `train:` settings. `data` may be the run `out`.
        config: How rows are labelled.
        out: The run folder.
        name: Name of the labels; default: the kind.
        force: Replace labels of that name that were made with other settings.
        progress: Receives notes and finished shards.

    Raises:
        UsageError: Other labels have the name (the message lists what changed), the settings do
            not fit the model or the rows, or no row is left with a label.
        DataError: Too many records of the data are bad.
    """
    need_torch("labelling")
    check_filters(config)
    make_refill(config.refill_rule)
    name = name or config.kind
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot name labels",
            hint="use letters, digits, '_', '-' and '.'; not raw, models or seed-...",
        )
    with run_lock(out) as store:
        context = RunContext(Run(store.root), progress, force)
        pool, trusted = _read_rows(context, recipe)
        made_from = _made_from(pool, trusted, recipe, config)
        facts = _finished_facts(context, name, made_from)
        if facts is None:
            keys = [overlap_key(row) for row in pool.examples()]
            resolved = _resolved(pool, trusted, recipe, config)
            task = LabelTask(context, pool, keys, trusted, recipe, resolved)
            labels, facts = _label_pool(task)
            write_labels(task, name, labels, {"made_from": made_from, "facts": facts})
        sections = {**context.run.section("labels"), name: facts}
        context.run.update(labels=sections, status="labelled")
    if not facts["counts"][OK]:
        why = ", ".join(f"{reason} {n:,}" for reason, n in facts["reasons"].items())
        raise UsageError(
            f"none of the {facts['rows']:,} rows got a label that is kept: {why}",
            hint="longer answers (--max-new-tokens), a lower --abstain-below, or fewer filters",
        )
    return Labelled(context.run, name, facts)


def _read_rows(context: RunContext, recipe: Recipe) -> tuple[Pool, list[Example]]:
    """Read the pool and the trusted rows; neither has a row with the prompt of a test row."""
    run, source = context.run, source_of_recipe(recipe)
    in_run, source = is_run(source.data), recorded_source(run, source)
    test_keys = overlap_keys(stored_test_rows(run))
    if in_run:
        pool = pool_of(run)
    else:
        exclude = test_keys if run.section("data").get("exclude") else frozenset()
        pool = open_pool(
            run, source, exclude=exclude, force=context.force, progress=context.progress
        )
    if not recipe.trusted:
        return pool, []
    return pool, read_extra_rows(source, recipe.trusted, exclude=test_keys).examples


def _made_from(
    pool: Pool, trusted: Sequence[Example], recipe: Recipe, config: LabelConfig
) -> dict[str, Any]:
    """Return all that decides the labels, in words of the command line; models by their content."""
    from pilotfish.models import identify

    samples = config.kind == "consistency"
    tunes = config.tune and bool(trusted or config.folds)
    trains = bool(config.then or config.refill)
    refill = None
    if config.refill:
        refill = [identify(config.refill), asdict(make_refill(config.refill_rule))]
    return {
        "data": pool.fingerprint,
        "weak model": identify(recipe.weak),
        "trusted rows": fingerprint(trusted) if trusted else None,
        "tuning": recipe.weak_train.model_dump(mode="json") if tunes else None,
        "then": [identify(model) for model in config.then],
        "refill": refill,
        "head": config.head,
        "training": recipe.train.model_dump(mode="json") if trains else None,
        "kind": config.kind,
        "classes": config.classes,
        "samples": config.samples if samples else None,
        "temperature": config.temperature if samples else None,
        "abstain": config.abstain_below,
        "filters": list(config.filters),
        "folds": config.folds,
        "seed": config.seed,
        "max_new_tokens": config.max_new_tokens,
        "max_length": config.max_length,
    }


def _finished_facts(
    context: RunContext, name: str, made_from: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the facts of the same labels made before; None where they must be made."""
    store = context.store
    known = store.read_json(f"labels/{name}.json")
    if known is None:
        return None
    old = known["made_from"]
    changed = sorted(key for key in {*old, *made_from} if old.get(key) != made_from.get(key))
    if changed and not context.force:
        raise UsageError(
            f"{context.run.root} already holds labels '{name}' made with another "
            f"{', '.join(changed)}",
            hint="name the new ones with --as, or pass --force to replace them",
        )
    if changed or store.manifest(f"labels/{name}.json") is None:
        return None
    facts: dict[str, Any] = known["facts"]
    return facts


def _resolved(
    pool: Pool, trusted: Sequence[Example], recipe: Recipe, config: LabelConfig
) -> LabelConfig:
    """Decide classes and the longest answer, once for all shards."""
    from pilotfish.models import classes_of, is_classifier, load

    if config.classes is None and is_classifier(recipe.weak):
        config = config.model_copy(update={"classes": list(classes_of(recipe.weak))})
    own = pool.columns("label")["label"]
    labels = [*(own if any(own) else ()), *(row.label for row in trusted)]
    return resolve_config(
        config,
        lambda: load(recipe.weak),
        labels,
        lambda: own_answers(chain(pool.examples(), trusted)),
    )


def _label_pool(task: LabelTask) -> tuple[Labels, dict[str, Any]]:
    """Label by the weak model, then by each model of `then`; add hard rows back by `refill`.

    Returns:
        The labels of the pool [n], and the facts about them for run.json.
    """
    labellers = weak_labellers(task)
    summaries = [labellers.summary]
    predictions, filtered = _predict_and_filter(task, labellers)
    for model in task.config.then:
        labellers = student_labellers(task, model, filtered.labels)
        summaries.append(labellers.summary)
        predictions, filtered = _predict_and_filter(task, labellers)
    labels = filtered.labels
    if task.config.refill:
        labellers = student_labellers(task, task.config.refill, labels)
        summaries.append(labellers.summary)
        labels = _refilled(task, predictions, labels, predict_pool(task, labellers).labels)
    agreement, compared = _agreement(task.pool, labels)
    reasons = Counter(str(reason) for reason in labels.reason if reason)
    return labels, {
        "kind": task.config.kind,
        "rows": len(labels),
        "counts": labels.counts,
        "reasons": dict(reasons.most_common()),
        "classes": list(labels.classes),
        "agreement": agreement,
        "agreement_rows": compared,
        "models": sorted({str(by) for by in labels.by} - {""}),
        "filters": dict(filtered.facts),
        "words": summaries,
    }


def _predict_and_filter(task: LabelTask, labellers: Labellers) -> tuple[LabelPredictions, Filtered]:
    predictions = predict_pool(task, labellers)
    trusted = {
        each.fold: predict_trusted(each.trusted, each.load(task), task.config, fold=each.fold)
        for each in labellers.labellers
        if each.trusted
    }
    return predictions, apply_filters(predictions, task.config, trusted)


def _refilled(
    task: LabelTask, predictions: LabelPredictions, labels: Labels, second: Labels
) -> Labels:
    """Add those hard rows back to which a second model gives the same label."""
    before = predictions.labels
    rule = make_refill(task.config.refill_rule)
    difficulty = 1.0 - before.confidence
    admitted = rule.admit(Candidates(before, predictions.states), labels.ok, second, difficulty)
    back = admitted.kept & ~labels.ok
    return replace(
        labels,
        status=np.where(back, OK, labels.status).astype(object),
        reason=np.where(back, "", labels.reason).astype(object),
        round=np.where(back, 1, labels.round),
    )


def _agreement(pool: Pool, labels: Labels) -> tuple[float | None, int]:
    """Return the share of kept labels that equal the row's own answer, and of how many rows."""
    same, rows = 0, 0
    for place, row in enumerate(pool.examples()):
        if labels.status[place] == OK and row.response.strip() and (row.turns or row.label):
            rows += 1
            same += is_own_answer(str(labels.label[place]), row)
    return (same / rows if rows else None), rows
