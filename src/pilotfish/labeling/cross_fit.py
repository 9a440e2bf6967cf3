"""Who labels which rows: models tuned or trained so that none ever labels what it learnt."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pilotfish.data import overlap_key, overlap_keys
from pilotfish.data.held_out import hold_out
from pilotfish.errors import DataError, UsageError
from pilotfish.labeling.answer import check_head, is_answered
from pilotfish.labeling.settings import Task
from pilotfish.labeling.table import Labels
from pilotfish.labeling.train import train_student, tune_labeller
from pilotfish.records import Example, Ints

if TYPE_CHECKING:
    from pilotfish.models import Loaded

LEARNT = "asked_in_tuning"  # the model that would label the row was tuned on what it asks
_GOLD_SHARE = 3  # one trusted row in so many is held out of tuning for a filter that needs gold


@dataclass(frozen=True)
class Labeller:
    """One model, what it learnt (overlap keys), and the rows of known answer it did not learn.

    fold: of the rows it labels, -1 for all it did not learn. folder: below the run, "" for a model
    that is used as it is. head: whether it answers by a classification head.
    """

    model: str
    fold: int = -1
    learnt: frozenset[str] = frozenset()
    gold: tuple[Example, ...] = ()
    folder: str = ""
    head: bool = False

    def load(self, task: Task) -> "Loaded":
        """The model, ready to be asked."""
        name = str(task.run.root / self.folder) if self.folder else self.model
        if self.head:
            from pilotfish.models import load_classifier

            return load_classifier(name, task.how.classes or ())
        from pilotfish.models import load

        return load(name)


@dataclass(frozen=True)
class Labellers:
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


def weak_labellers(task: Task) -> Labellers:
    """The weak model as it is, tuned on trusted rows, or cross-fitted."""
    how, trusted = task.how, task.trusted
    if how.wants_gold and not trusted:
        raise UsageError(
            "the filter 'trust' learns from rows whose right answer is known",
            hint="give some with --trusted DATA, or filter by confidence",
        )
    if _head(task):
        check_head(task.models.weak, how)
    if not task.models.tuned or not (trusted or how.folds):
        return _as_it_is(task)
    shared = overlap_keys(trusted) & {*task.keys}
    if how.folds and (shared or not trusted):
        rows = list(trusted) or _own(task)
        return _cross_fitted(task, rows)
    return _tuned_once(task, shared)


def _as_it_is(task: Task) -> Labellers:
    from pilotfish.models import is_classifier

    weak = task.models.weak
    head = task.models.heads(weak)
    if head and not is_classifier(weak):
        raise UsageError(
            f"{weak} has no trained classification head",
            hint="tune one: give rows with --trusted DATA, or --folds",
        )
    words = f"{weak} is used as it is: what it was trained on is not known here"
    gold = tuple(task.trusted) if task.how.wants_gold else ()
    return Labellers((Labeller(weak, gold=gold, head=head),), words)


def _tuned_once(task: Task, shared: frozenset[str]) -> Labellers:
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
    folder = tune_labeller(task, task.models.weak, learnt)
    return Labellers(
        (Labeller(task.models.weak, -1, keys, tuple(gold), folder, _head(task)),), words
    )


def _head(task: Task) -> bool:
    return task.models.heads(task.models.weak)


def _own(task: Task) -> list[Example]:
    rows = [row for row in task.pool.examples() if row.response and (row.turns or row.label)]
    if not rows:
        raise DataError(
            "--folds tunes the weak model on the rows' own answers, and they have none",
            hint="give trusted rows with --trusted DATA",
        )
    return rows


def _cross_fitted(task: Task, rows: Sequence[Example]) -> Labellers:
    folds, seed = task.how.folds, task.how.seed
    part = [fold_of(overlap_key(row), folds, seed) for row in rows]
    labellers = []
    for fold in range(folds):
        learnt = [row for row, place in zip(rows, part, strict=True) if place != fold]
        apart = [row for row, place in zip(rows, part, strict=True) if place == fold]
        gold = tuple(apart) if task.how.wants_gold else ()
        task.progress.note(f"fold {fold + 1} of {folds}: tuned on {len(learnt):,} rows")
        folder = tune_labeller(task, task.models.weak, learnt)
        labellers.append(
            Labeller(task.models.weak, fold, overlap_keys(learnt), gold, folder, _head(task))
        )
    which = "trusted rows" if task.trusted else "rows of the pool with their own answers"
    words = (
        f"cross-fitted in {folds} folds on {len(rows):,} {which}: the model that labels a fold "
        "was tuned on rows of the others, and rows that ask the same share a fold"
    )
    return Labellers(tuple(labellers), words, folds, seed)


def student_labellers(task: Task, model: str, labels: Labels) -> Labellers:
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
            is_answered(row, str(labels.label[i]))
            for row, i in zip(task.pool.take(places), places, strict=True)
        ]
        soft = None if labels.probs is None else labels.probs[places]
        folder = train_student(task, model, rows, soft)
        learnt = frozenset(task.keys[int(i)] for i in places)
        labellers.append(Labeller(model, fold, learnt, (), folder, task.models.heads(model)))
    words = (
        f"{model}: trained in {folds} folds on {int(labels.ok.sum()):,} labels of the one before"
    )
    return Labellers(tuple(labellers), words, folds, seed)
