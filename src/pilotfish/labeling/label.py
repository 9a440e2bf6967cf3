"""label: a weak model writes the answers of a pool, and says which of them it stands by."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from pilotfish.config import TrainConfig, WeakTrainConfig, make_recipe, upgrade_overrides
from pilotfish.config.data import Source
from pilotfish.data import Pool, overlap_key, overlap_keys
from pilotfish.data.held_out import stored_test_rows
from pilotfish.data.run_pool import (
    fingerprint,
    is_run,
    open_pool,
    pool_of,
    read_extra_rows,
    recorded_source,
)
from pilotfish.errors import UsageError
from pilotfish.extras import need_torch
from pilotfish.labeling.answer import LabelPredictions
from pilotfish.labeling.cross_fit import Labellers, student_labellers, weak_labellers
from pilotfish.labeling.files import own_agreement, read_labels, write_labels
from pilotfish.labeling.filtering import Filtered, apply_filter, gold_of, own_answers
from pilotfish.labeling.filters import Candidates
from pilotfish.labeling.settings import LabelConfig, Models, Task, resolve_config
from pilotfish.labeling.shards import predict_pool
from pilotfish.labeling.table import OK, Labels
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Example
from pilotfish.store import Run, run_lock

_NAME = re.compile(r"(?!seed-|raw$|models$)[A-Za-z0-9][\w.\-]{0,127}", re.ASCII)


@dataclass(frozen=True)
class Labelled:
    """What a labelling left in its run."""

    run: Run
    name: str
    facts: Mapping[str, Any]  # of run.json: counts, agreement, classes, words, ...

    @property
    def labels(self) -> Labels:
        """All rows of the pool, read from disk."""
        return read_labels(self.run, self.name)


def label(
    source: Source,
    models: Models,
    out: str,
    how: LabelConfig,
    *,
    name: str | None = None,
    trusted: str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Labelled:
    """Read DATA (or reuse RUN's pool), label it, commit RUN/labels/<name>.parquet and .jsonl.

    The same command again reuses what is there, and after a kill redoes only shards that are
    missing. UsageError, naming what changed, where other labels have the name (unless `force`), or
    where no row is left with a label.
    """
    need_torch("labelling")
    how.check()
    name = _checked(name or how.kind)
    with run_lock(out) as store:
        run = Run(store.root)
        pool, vouched = _rows(run, source, trusted, force=force, progress=progress)
        made_from = _made_from(pool, vouched, models, how)
        facts = _standing(run, name, made_from, force=force)
        if facts is None:
            facts = _label(run, pool, vouched, models, how, name=name, made_from=made_from,
                           progress=progress)  # fmt: skip
    found = Labelled(run, name, facts)
    _check_any(found)
    return found


def settings(overrides: Sequence[str]) -> tuple[WeakTrainConfig, TrainConfig]:
    """Return the `weak_train:` and `train:` settings of `--set`; refuse others by name."""
    for override in upgrade_overrides(overrides):
        if not override.strip().startswith(("weak_train.", "train.")):
            raise UsageError(
                f"--set {override}: this command takes only settings of weak_train. and train.",
                hint="write --set weak_train.NAME=VALUE",
            )
    recipe = make_recipe({"data": "-", "weak": "-", "strong": "-"}, list(overrides))
    return recipe.weak_train, recipe.train


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot name labels",
            hint="use letters, digits, '_', '-' and '.'; not raw, models or seed-...",
        )
    return name


def _rows(
    run: Run, source: Source, trusted: str | None, *, force: bool, progress: Progress
) -> tuple[Pool, list[Example]]:
    """The pool and the trusted rows; neither holds what the run's test rows ask."""
    again, source = is_run(source.data), recorded_source(run, source)
    asked = overlap_keys(stored_test_rows(run))
    kept_out = asked if run.section("data").get("exclude") else frozenset()
    pool = (
        pool_of(run)
        if again
        else open_pool(run, source, exclude=kept_out, force=force, progress=progress)
    )
    return pool, read_extra_rows(source, trusted, exclude=asked).examples if trusted else []


def _made_from(
    pool: Pool, trusted: Sequence[Example], models: Models, how: LabelConfig
) -> dict[str, Any]:
    """All that decides the labels, in words of the command line; models by their content."""
    from pilotfish.models import identify

    settings = asdict(how) if how.kind == "consistency" else {**asdict(how), **_UNUSED}
    tunes, trains = models.tuned and bool(trusted or how.folds), models.then or models.refill
    return {
        "data": pool.fingerprint,
        "weak model": identify(models.weak),
        "trusted rows": fingerprint(trusted) if trusted else None,
        "tuning": models.tune.model_dump(mode="json") if tunes else None,
        "then": [identify(model) for model in models.then],
        "refill": [identify(models.refill), asdict(models.rule)] if models.refill else None,
        "head": models.head,
        "training": models.train.model_dump(mode="json") if trains else None,
        **{key: list(v) if isinstance(v, tuple) else v for key, v in settings.items()},
    }


_UNUSED = {"samples": None, "temperature": None}  # of other kinds than consistency


def _standing(
    run: Run, name: str, made_from: Mapping[str, Any], *, force: bool
) -> dict[str, Any] | None:
    """What run.json says of the same labels, made before; None where they are to be made."""
    known = run.store.read_json(f"labels/{name}.json")
    if known is None:
        return None
    old = known["made_from"]
    changed = sorted(key for key in {*old, *made_from} if old.get(key) != made_from.get(key))
    if changed and not force:
        raise UsageError(
            f"{run.root} already holds labels '{name}' made with another {', '.join(changed)}",
            hint="name the new ones with --as, or pass --force to replace them",
        )
    if changed or run.store.manifest(f"labels/{name}.json") is None:
        return None
    facts: dict[str, Any] = known["facts"]
    _tell(run, name, facts)
    return facts


def _label(
    run: Run,
    pool: Pool,
    trusted: Sequence[Example],
    models: Models,
    how: LabelConfig,
    *,
    name: str,
    made_from: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    keys = [overlap_key(row) for row in pool.examples()]
    task = Task(run, pool, keys, trusted, models, _settled(pool, trusted, models, how), progress)
    crew = weak_labellers(task)
    told, looked, sifted = [crew.words], *_round(task, crew)
    for model in models.then:
        crew = student_labellers(task, model, sifted.labels)
        told.append(crew.words)
        looked, sifted = _round(task, crew)
    labels = sifted.labels
    if models.refill:
        crew = student_labellers(task, models.refill, labels)
        told.append(crew.words)
        labels = _refilled(task, looked, labels, crew)
    agreement, of = own_agreement(pool, labels)
    facts = {
        "kind": how.kind,
        "rows": len(labels),
        "counts": labels.counts,
        "reasons": _reasons(labels),
        "classes": list(labels.classes),
        "agreement": agreement,
        "agreement_rows": of,
        "models": sorted({str(by) for by in labels.by} - {""}),
        "filters": dict(sifted.facts),
        "words": told,
    }
    write_labels(task, name, labels, {"made_from": dict(made_from), "facts": facts})
    _tell(run, name, facts)
    return facts


def _settled(
    pool: Pool, trusted: Sequence[Example], models: Models, how: LabelConfig
) -> LabelConfig:
    """Classes and room for answers, decided once for all shards."""
    from pilotfish.models import classes_of, is_classifier, load

    if how.classes is None and is_classifier(models.weak):
        how = replace(how, classes=classes_of(models.weak))
    own = pool.columns("label")["label"]
    labels = [*(own if any(own) else ()), *(row.label for row in trusted)]
    return resolve_config(
        how,
        lambda: load(models.weak),
        labels,
        lambda: own_answers(chain(pool.examples(), trusted)),
    )


def _round(task: Task, crew: Labellers) -> tuple[LabelPredictions, Filtered]:
    """What a crew says, and what of it stands."""
    looked = predict_pool(task, crew)
    gold = {
        each.fold: gold_of(each.gold, each.load(task), task.how, fold=each.fold)
        for each in crew.labellers
        if each.gold
    }
    return looked, apply_filter(looked, task.how, gold)


def _refilled(task: Task, looked: LabelPredictions, labels: Labels, crew: Labellers) -> Labels:
    """The labels with those hard rows back that another model answers alike."""
    second = predict_pool(task, crew).labels
    before = looked.labels
    admitted = task.models.rule.admit(
        Candidates(before, looked.states), labels.ok, second, 1.0 - before.confidence
    )
    back = admitted.kept & ~labels.ok
    return replace(
        labels,
        status=np.where(back, OK, labels.status).astype(object),
        reason=np.where(back, "", labels.reason).astype(object),
        round=np.where(back, 1, labels.round),
    )


def _reasons(labels: Labels) -> dict[str, int]:
    """Rows of every reason why a label does not stand, most first."""
    return dict(Counter(str(why) for why in labels.reason if why).most_common())


def _tell(run: Run, name: str, facts: Mapping[str, Any]) -> None:
    """The line of run.json."""
    run.update(labels={**run.section("labels"), name: dict(facts)}, status="labelled")


def _check_any(found: Labelled) -> None:
    """UsageError where nothing is left to learn from: the table stays, and says why."""
    counts, reasons = found.facts["counts"], found.facts["reasons"]
    if counts[OK]:
        return
    why = ", ".join(f"{reason} {n:,}" for reason, n in reasons.items())
    raise UsageError(
        f"none of the {found.facts['rows']:,} rows got a label that stands: {why}",
        hint="longer answers (--max-new-tokens), a lower --abstain-below, or fewer filters",
    )
