"""The two kinds of task of a weak-to-strong experiment: choose a class, or write an answer."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pilotfish.config import TrainConfig
from pilotfish.errors import DataError, UsageError
from pilotfish.labels import FAILED, OK, Labels
from pilotfish.records import Example, Floats, Texts, Turn

if TYPE_CHECKING:
    from pilotfish.models import Loaded
    from pilotfish.train import Looks

OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Said:
    """What one model says to n rows.

    label [n]: the answer, "" where there is none, and reason [n] then says why. confidence [n] in
    [0, 1], nan where unknown. log_probs [n, K] in nats, states [n, d]: of classifiers only.
    """

    label: Texts
    reason: Texts
    confidence: Floats
    log_probs: Floats | None = None
    states: Floats | None = None

    def labels(self, rows: Sequence[Example], classes: Sequence[str], by: str) -> Labels:
        """The same as a table of labels, made by the model with the digest `by`."""
        n = len(rows)
        return Labels(
            ids=np.array([row.id for row in rows], dtype=object),
            label=self.label,
            status=np.where(self.reason == "", OK, FAILED).astype(object),
            reason=self.reason,
            confidence=self.confidence,
            round=np.zeros(n, dtype=np.int64),
            fold=np.full(n, -1, dtype=np.int64),
            by=np.full(n, by, dtype=object),
            classes=tuple(classes),
            probs=None if self.log_probs is None else np.exp(self.log_probs),
        )


@dataclass(frozen=True)
class Lesson:
    """Rows as they are taught, and a probability per class where labels are soft."""

    rows: Sequence[Example]
    probs: Floats | None = None  # [n, K]
    teacher: str = ""  # folder of the model that taught, for losses that ask it anew


def lesson(rows: Sequence[Example], said: Said, usable: NDArray[np.bool_], teacher: str) -> Lesson:
    """The usable rows with the labels a model gave them; nothing of their own labels is left."""
    places = np.flatnonzero(usable).tolist()
    probs = None if said.log_probs is None else np.exp(said.log_probs[places])
    taught = [_labelled(rows[i], str(said.label[i])) for i in places]
    return Lesson(taught, probs, teacher)


def _labelled(row: Example, label: str) -> Example:
    if row.turns:
        return replace(row, turns=(*row.prompt, Turn("assistant", label)), raw="")
    return replace(row, label=label, raw="")


def right_of(rows: Sequence[Example], labels: Texts) -> NDArray[np.bool_]:
    """[n] whether each label is the row's own, outer white space aside."""
    pairs = zip(rows, labels, strict=True)
    return np.array([row.response.strip() == label for row, label in pairs], dtype=bool)


class Task(Protocol):
    """How models learn and are asked."""

    metric: str
    loss: str  # of the naive arm where the recipe names none

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels there are; () where answers are free."""
        ...

    @property
    def described(self) -> dict[str, Any]:
        """All that decides an answer beside the model and the row."""
        ...

    def learn(
        self, lesson: Lesson, model: str, config: TrainConfig, *, how: "How"
    ) -> dict[str, Any]:
        """Train `model` into how.folder; the facts of its manifest."""
        ...

    def open(self, folder: str) -> "Loaded":
        """The trained model in `folder`."""
        ...

    def ask(self, model: "Loaded", rows: Sequence[Example], *, states: bool = False) -> Said:
        """What a trained model says."""
        ...


@dataclass(frozen=True)
class How:
    """What is decided for one training by the experiment, not by its recipe."""

    seed: int
    folder: Path
    steps: int | None = None
    on_step: OnStep | None = None
    looks: "Looks | None" = None


@dataclass(frozen=True)
class Classes:
    """Texts with labels: a classification head on any encoder or language model."""

    classes: tuple[str, ...]
    max_length: int
    metric = "accuracy"
    loss = "soft_ce"

    @property
    def described(self) -> dict[str, Any]:
        """The classes, and how much of a text is read."""
        return {"classes": list(self.classes), "max_length": self.max_length}

    def learn(self, lesson: Lesson, model: str, config: TrainConfig, *, how: How) -> dict[str, Any]:
        """Soft targets where the loss wants a teacher's distribution, else the labels."""
        from pilotfish.losses import make_loss
        from pilotfish.train import train_classifier

        soft = "teacher" in make_loss(config.loss).needs
        if soft and lesson.probs is None:
            raise UsageError(f"the loss '{config.loss}' needs soft labels")
        place = {name: at for at, name in enumerate(self.classes)}
        hard = np.array([place[str(row.label)] for row in lesson.rows], dtype=np.int64)
        facts: dict[str, Any] = train_classifier(
            lesson.rows, model, config, classes=self.classes,
            targets=lesson.probs if soft and lesson.probs is not None else hard,
            seed=how.seed, folder=how.folder, steps=how.steps, on_step=how.on_step,
            looks=how.looks,
        )  # fmt: skip
        return facts

    def open(self, folder: str) -> "Loaded":
        """A classifier of these classes."""
        from pilotfish.models import load_classifier

        return load_classifier(folder, self.classes)

    def ask(self, model: "Loaded", rows: Sequence[Example], *, states: bool = False) -> Said:
        """The likeliest class of every row."""
        from pilotfish.engine import classify

        found = classify(model, rows, max_length=self.max_length, states=states)
        usable = found.reason == ""
        names = np.array(self.classes, dtype=object)
        best = np.argmax(np.where(usable[:, None], found.log_probs, 0.0), axis=1)
        sure = np.exp(np.max(found.log_probs, axis=1, initial=-np.inf))
        return Said(
            np.where(usable, names[best], "").astype(object), found.reason,
            np.where(usable, np.minimum(sure, 1.0), np.nan), found.log_probs, found.states,
        )  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """Prompts with answers: causal language models that write; judged to the letter."""

    like: tuple[str, ...]  # answers of the weak half: they say how long one may get
    classes: tuple[str, ...] = ()
    metric = "exact_match"
    loss = "lm"

    @property
    def described(self) -> dict[str, Any]:
        """The answers that say how long one may get."""
        return {"like": hashlib.sha256("\n".join(self.like).encode()).hexdigest()}

    def learn(self, lesson: Lesson, model: str, config: TrainConfig, *, how: How) -> dict[str, Any]:
        """The answers as they stand in the rows."""
        from pilotfish.losses import make_loss
        from pilotfish.models import load
        from pilotfish.train import train

        asks = "teacher" in make_loss(config.loss).needs
        if asks and not lesson.teacher:
            raise UsageError(f"the loss '{config.loss}' needs a teacher")
        return train(
            lesson.rows, model, config, seed=how.seed, folder=how.folder, steps=how.steps,
            teacher=load(lesson.teacher) if asks else None, on_step=how.on_step,
            looks=how.looks,
        )  # fmt: skip

    def open(self, folder: str) -> "Loaded":
        """A causal language model."""
        from pilotfish.models import load

        return load(folder)

    def ask(self, model: "Loaded", rows: Sequence[Example], *, states: bool = False) -> Said:
        """Greedy answers, outer white space stripped as the metric does."""
        from pilotfish.engine import answer
        from pilotfish.judge.exact_match import answer_room

        found = answer(model, rows, max_new_tokens=answer_room(model, self.like))
        label = np.array([str(text).strip() for text in found.text], dtype=object)
        reason = np.where((label == "") & (found.reason == ""), "empty_answer", found.reason)
        return Said(label, reason.astype(object), found.confidence)


def task_of(weak: Sequence[Example], others: Sequence[Example], max_length: int) -> Task:
    """The kind of task the rows are of.

    UsageError where they have no labels or are of both kinds, DataError where a class stands in
    other parts but not in the weak half, so that the weak model could never learn it.
    """
    everything = [*weak, *others]
    labelled = [row.label is not None for row in everything]
    if all(labelled):
        return _classes(weak, others, max_length)
    if any(labelled) or not all(row.turns for row in everything):
        raise UsageError(
            "a weak-to-strong experiment needs texts with labels, or prompts with answers; "
            "these rows are neither, or both",
            hint="name the columns, as map: {text: sentence, label: label}",
        )
    return Answers(tuple(sorted({row.response for row in weak})))


def _classes(weak: Sequence[Example], others: Sequence[Example], max_length: int) -> Classes:
    known = {str(row.label) for row in weak}
    if unknown := sorted({str(row.label) for row in others} - known):
        raise DataError(
            f"no row of the weak half is labelled {', '.join(unknown[:5])}: "
            "the weak model could not learn it",
            hint="raise weak_rows, or leave that label out of the data",
        )
    if len(known) < 2:
        raise DataError("all rows have the same label: there is nothing to learn")
    return Classes(tuple(sorted(known)), max_length)
