"""Who labels which rows: models tuned or trained so that none ever labels what it learnt."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.config import TrainConfig, TuneConfig
from pilotfish.errors import DataError, UsageError
from pilotfish.flows.answering import answered
from pilotfish.flows.costs import training_cost
from pilotfish.flows.extras import need_torch
from pilotfish.flows.held_out import hold_out
from pilotfish.flows.labelling import Labelling
from pilotfish.flows.progress import Progress
from pilotfish.flows.reading import fingerprint
from pilotfish.labels import Labels, Refill
from pilotfish.pool import Pool, overlap_key, overlap_keys
from pilotfish.records import Example, Ints
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded

LEARNT = "asked_in_tuning"  # the model that would label the row was tuned on what it asks
_GOLD_SHARE = 3  # one trusted row in so many is held out of tuning for a filter that needs gold


@dataclass(frozen=True)
class Models:
    """The models of one labelling.

    weak: labels, after being tuned on the trusted rows (unless not `tuned`: then they only serve
    the filter `trust`). then: each is trained on the labels of the one before, and labels anew.
    refill: trained on the labels kept, and asked which of the others may come back, by `rule`.
    """

    weak: str
    tuned: bool = True
    then: tuple[str, ...] = ()
    refill: str | None = None
    rule: Refill = field(default_factory=Refill)
    tune: TuneConfig = field(default_factory=TuneConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class Task:
    """The rows to be labelled and how, as all steps of one labelling see them."""

    run: Run
    pool: Pool
    keys: Sequence[str]  # [n] what each row asks
    trusted: Sequence[Example]
    models: Models
    how: Labelling
    progress: Progress


@dataclass(frozen=True)
class Labeller:
    """One model, what it learnt (overlap keys), and the rows of known answer it did not learn.

    fold: of the rows it labels, -1 for all it did not learn. folder: below the run, "" for a model
    that is used as it is.
    """

    model: str
    fold: int = -1
    learnt: frozenset[str] = frozenset()
    gold: tuple[Example, ...] = ()
    folder: str = ""

    def load(self, run: Run) -> "Loaded":
        """The model, ready to be asked."""
        from pilotfish.models import load

        return load(str(run.root / self.folder) if self.folder else self.model)


@dataclass(frozen=True)
class Crew:
    """The models that share the rows of a pool, and in words why none labels what it learnt."""

    labellers: tuple[Labeller, ...]
    words: str
    folds: int = 0
    seed: int = 0

    def owner(self, keys: Sequence[str]) -> Ints:
        """[n] which of the labellers each row belongs to, -1 where all of them learnt it."""
        if self.folds:
            owner = np.array([fold_of(key, self.folds, self.seed) for key in keys], dtype=np.int64)
        else:
            learnt = self.labellers[0].learnt
            owner = np.array([-1 if key in learnt else 0 for key in keys], dtype=np.int64)
        self._check(keys, owner)
        return owner

    def _check(self, keys: Sequence[str], owner: Ints) -> None:
        """Whatever dealt out the rows: no model meets a question that it learnt."""
        for number, labeller in enumerate(self.labellers):
            mine = {keys[int(i)] for i in np.flatnonzero(owner == number)}
            if leaked := mine & labeller.learnt:
                raise AssertionError(f"{len(leaked)} rows would be labelled by who learnt them")


def fold_of(key: str, folds: int, seed: int) -> int:
    """The fold of all rows that ask the same; by hash, so that no other row has a say."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % folds


def weak_crew(task: Task) -> Crew:
    """The weak model as it is, tuned on trusted rows, or cross-fitted."""
    how, trusted = task.how, task.trusted
    if how.wants_gold and not trusted:
        raise UsageError(
            "the filter 'trust' learns from rows whose right answer is known",
            hint="give some with --trusted DATA, or filter by confidence",
        )
    if not task.models.tuned or not (trusted or how.folds):
        return _as_it_is(task)
    shared = overlap_keys(trusted) & {*task.keys}
    if how.folds and (shared or not trusted):
        rows = list(trusted) or _own(task)
        return _cross_fitted(task, rows)
    return _tuned_once(task, shared)


def _as_it_is(task: Task) -> Crew:
    words = f"{task.models.weak} is used as it is: what it was trained on is not known here"
    gold = tuple(task.trusted) if task.how.wants_gold else ()
    return Crew((Labeller(task.models.weak, gold=gold),), words)


def _tuned_once(task: Task, shared: frozenset[str]) -> Crew:
    learnt, gold = list(task.trusted), list[Example]()
    if task.how.wants_gold:
        learnt, gold = hold_out(learnt, max(1, len(learnt) // _GOLD_SHARE), task.how.seed)
    keys = overlap_keys(learnt)
    alike = sum(key in keys for key in task.keys)
    words = (
        f"the weak model was tuned on {len(learnt):,} trusted rows; none of the "
        f"{len(task.keys):,} pool rows asks what one of them asks (by overlap keys)"
    )
    if alike:
        words = (
            f"{alike:,} of the {len(task.keys):,} pool rows ask what one of the {len(learnt):,} "
            "trusted rows asks that the weak model was tuned on: they are not labelled "
            "(--folds would label them by models that did not see them)"
        )
    folder = _tune(task, task.models.weak, learnt)
    return Crew((Labeller(task.models.weak, -1, keys, tuple(gold), folder),), words)


def _own(task: Task) -> list[Example]:
    rows = [row for row in task.pool.examples() if row.response and (row.turns or row.label)]
    if not rows:
        raise DataError(
            "--folds tunes the weak model on the rows' own answers, and they have none",
            hint="give trusted rows with --trusted DATA",
        )
    return rows


def _cross_fitted(task: Task, rows: Sequence[Example]) -> Crew:
    folds, seed = task.how.folds, task.how.seed
    part = [fold_of(overlap_key(row), folds, seed) for row in rows]
    labellers = []
    for fold in range(folds):
        learnt = [row for row, place in zip(rows, part, strict=True) if place != fold]
        apart = [row for row, place in zip(rows, part, strict=True) if place == fold]
        gold = tuple(apart) if task.how.wants_gold else ()
        task.progress.note(f"fold {fold + 1} of {folds}: tuned on {len(learnt):,} rows")
        folder = _tune(task, task.models.weak, learnt)
        labellers.append(Labeller(task.models.weak, fold, overlap_keys(learnt), gold, folder))
    which = "trusted rows" if task.trusted else "rows of the pool with their own answers"
    words = (
        f"cross-fitted in {folds} folds on {len(rows):,} {which}: the model that labels a fold "
        "was tuned on rows of the others, and rows that ask the same share a fold"
    )
    return Crew(tuple(labellers), words, folds, seed)


def next_crew(task: Task, model: str, labels: Labels) -> Crew:
    """Another model trained on labels [n]; in folds, so that it labels none that it learnt."""
    folds, seed = max(task.how.folds, 2), task.how.seed
    part = np.array([fold_of(key, folds, seed) for key in task.keys], dtype=np.int64)
    labellers = []
    for fold in range(folds):
        places = np.flatnonzero(labels.ok & (part != fold))
        if not len(places):
            raise UsageError(
                f"no label is left to train {model} on",
                hint="set less aside: a lower --abstain-below, or fewer filters",
            )
        rows = [
            answered(row, str(labels.label[i]))
            for row, i in zip(task.pool.take(places), places, strict=True)
        ]
        folder = _train(task, model, rows)
        learnt = frozenset(task.keys[int(i)] for i in places)
        labellers.append(Labeller(model, fold, learnt, folder=folder))
    words = (
        f"{model}: trained in {folds} folds on {int(labels.ok.sum()):,} labels of the one before"
    )
    return Crew(tuple(labellers), words, folds, seed)


def _tune(task: Task, base: str, rows: Sequence[Example]) -> str:
    """The folder of the base model tuned on rows, made now or found in the run."""
    from pilotfish.models import identify

    need_torch("tuning the weak model", extra="train")
    config, seed = task.models.tune, task.how.seed
    made_from = {
        "model": identify(base),
        "trusted": fingerprint(rows),
        "seed": seed,
        "config": config.model_dump(mode="json"),
    }
    known = task.run.store.manifest("weak/manifest.json")  # a score may have tuned the very same
    if known and known.get("made_from") == made_from:
        return "weak"

    def make(folder: Path) -> dict[str, Any]:
        from pilotfish.train import tune

        return tune(rows, base, seed=seed, folder=folder, config=config)

    return _made(task, "tune", rows, made_from, make=make)


def _train(task: Task, base: str, rows: Sequence[Example]) -> str:
    """The folder of a later model of a chain, trained on labelled rows, made now or found."""
    from pilotfish.models import identify

    need_torch("training on weak labels", extra="train")
    config, seed = task.models.train, task.how.seed
    made_from = {
        "model": identify(base),
        "labelled": fingerprint(rows),
        "seed": seed,
        "config": config.model_dump(mode="json"),
    }

    def make(folder: Path) -> dict[str, Any]:
        from pilotfish.train import train

        return train(rows, base, config, seed=seed, folder=folder)

    return _made(task, "train", rows, made_from, make=make)


def _made(
    task: Task,
    verb: str,
    rows: Sequence[Example],
    made_from: Mapping[str, Any],
    *,
    make: Callable[[Path], dict[str, Any]],
) -> str:
    """Commit a model under a name that says what it was made from; rows.jsonl names its rows."""
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    folder, store = f"labels/models/{digest}", task.run.store
    if store.manifest(f"{folder}/manifest.json") is not None:
        return folder
    task.progress.note(f"{verb} on {len(rows):,} rows")
    start = time.monotonic()
    with store.attempt(f"{folder}/manifest.json") as attempt:
        temp = attempt.folder(folder)
        facts = make(temp)
        lines = (json.dumps({"id": row.id, "asks": overlap_key(row)}) for row in rows)
        (temp / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        attempt.meta = {"made_from": dict(made_from), **facts}
    task.run.cost(
        verb, f"labelling model {digest}", seconds=time.monotonic() - start, rows=len(rows),
        **training_cost(facts),
    )  # fmt: skip
    return folder
