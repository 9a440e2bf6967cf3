"""The two kinds of task of a weak-to-strong experiment: choose a class, or write an answer."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from pilotfish.config import TrainConfig
from pilotfish.errors import DataError, UsageError
from pilotfish.flops import answering_flops, known
from pilotfish.labeling.answer import predict_labels
from pilotfish.labeling.settings import LabelConfig
from pilotfish.records import Example, Floats, Ints, Texts
from pilotfish.weak_to_strong.predictions import Held, Lesson, Said

if TYPE_CHECKING:
    from pilotfish.models import Loaded
    from pilotfish.training.checkpoint import Checkpoints
    from pilotfish.training.validation import StepCallback, Validation

OnStep = Callable[[int, int, float], None]


class Task(Protocol):
    """How models learn and are asked."""

    metric: str

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of labels that fit; the first where the recipe names none."""
        ...

    def loss(self, kind: str) -> str:
        """Of the naive arm, taught labels of that kind, where the recipe names none."""
        ...

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

    def ask(
        self,
        model: "Loaded",
        rows: Sequence[Example],
        *,
        states: bool = False,
        votes: LabelConfig | None = None,
    ) -> Said:
        """What a trained model says; votes: the most frequent of so many sampled answers."""
        ...

    def price(self, model: "Loaded", rows: Sequence[Example]) -> dict[str, float]:
        """Tokens and FLOPs of asking once, as far as they are known."""
        ...


@dataclass(frozen=True)
class How:
    """What is decided for one training by the experiment, not by its recipe."""

    seed: int
    folder: Path
    steps: int | None = None
    on_step: OnStep | None = None
    looks: "StepCallback | None" = None
    checkpoints: "Checkpoints | None" = None
    held: Held | None = None


@dataclass(frozen=True)
class Classes:
    """Texts with labels: a classification head on any encoder or language model."""

    classes: tuple[str, ...]
    max_length: int
    metric = "accuracy"
    kinds: ClassVar[tuple[str, ...]] = ("soft", "hard")

    def loss(self, kind: str) -> str:
        """Cross-entropy against what there is: probabilities, or classes."""
        return "soft_ce" if kind == "soft" else "lm"

    @property
    def described(self) -> dict[str, Any]:
        """The classes, and how much of a text is read."""
        return {"classes": list(self.classes), "max_length": self.max_length}

    def learn(self, lesson: Lesson, model: str, config: TrainConfig, *, how: How) -> dict[str, Any]:
        """Soft targets where the loss wants a teacher's distribution, else the labels."""
        from pilotfish.losses import make_loss
        from pilotfish.training.classify import train_classifier

        soft = "teacher" in make_loss(config.loss).needs
        if soft and lesson.probs is None:
            raise UsageError(f"the loss '{config.loss}' needs soft labels")
        facts: dict[str, Any] = train_classifier(
            lesson.rows, model, config, classes=self.classes,
            targets=self._targets(lesson, soft=soft), seed=how.seed, folder=how.folder,
            steps=how.steps, on_step=how.on_step, looks=how.looks, checkpoints=how.checkpoints,
            validation=self._validation(how.held, soft=soft) if how.held else None,
        )  # fmt: skip
        return facts

    def _targets(self, lesson: Lesson, *, soft: bool) -> Ints | Floats:
        if soft and lesson.probs is not None:
            return lesson.probs
        place = {name: at for at, name in enumerate(self.classes)}
        return np.array([place[str(row.label)] for row in lesson.rows], dtype=np.int64)

    def _validation(self, held: Held, *, soft: bool) -> "Validation":
        from pilotfish.training.validation import Validation

        labels = {
            "weak": self._targets(held.weak, soft=soft),
            "gold": self._targets(Lesson(held.gold), soft=False),
        }
        return Validation(held.weak.rows, labels, stop=held.stop)

    def open(self, folder: str) -> "Loaded":
        """A classifier of these classes."""
        from pilotfish.models import load_classifier

        return load_classifier(folder, self.classes)

    def ask(
        self,
        model: "Loaded",
        rows: Sequence[Example],
        *,
        states: bool = False,
        votes: LabelConfig | None = None,
    ) -> Said:
        """The likeliest class of every row. Of classes nothing is sampled."""
        from pilotfish.engine.classify import classify

        found = classify(model, rows, max_length=self.max_length, states=states)
        usable = found.reason == ""
        names = np.array(self.classes, dtype=object)
        best = np.argmax(np.where(usable[:, None], found.log_probs, 0.0), axis=1)
        sure = np.exp(np.max(found.log_probs, axis=1, initial=-np.inf))
        return Said(
            np.where(usable, names[best], "").astype(object), found.reason,
            np.where(usable, np.minimum(sure, 1.0), np.nan), found.log_probs, found.states,
        )  # fmt: skip

    def price(self, model: "Loaded", rows: Sequence[Example]) -> dict[str, float]:
        """Every text is read once."""
        from pilotfish.tokenization import clamp_max_length, encode_texts
        from pilotfish.training.cost import reading

        limit = clamp_max_length(self.max_length, model.window)
        lengths = [len(row.ids) for row in encode_texts(rows, model.tokenizer, limit)]
        return known(tokens=float(sum(lengths)), flops=reading(model, lengths))


@dataclass(frozen=True)
class Answers:
    """Prompts with answers: causal language models that write; judged to the letter."""

    like: tuple[str, ...]  # answers of the weak half: they say how long one may get
    classes: tuple[str, ...] = ()
    metric = "exact_match"
    kinds: ClassVar[tuple[str, ...]] = ("hard", "consistency")

    def loss(self, kind: str) -> str:
        """The answers are learnt as they are."""
        return "lm"

    @property
    def described(self) -> dict[str, Any]:
        """The answers that say how long one may get."""
        return {"like": hashlib.sha256("\n".join(self.like).encode()).hexdigest()}

    def learn(self, lesson: Lesson, model: str, config: TrainConfig, *, how: How) -> dict[str, Any]:
        """The answers as they stand in the rows."""
        from pilotfish.losses import make_loss
        from pilotfish.models import load
        from pilotfish.training.trainer import train

        asks = "teacher" in make_loss(config.loss).needs
        if asks and not lesson.teacher:
            raise UsageError(f"the loss '{config.loss}' needs a teacher")
        held: dict[str, Sequence[Example]] = {}
        if how.held and how.steps:
            # patience without end: all arms make the same steps, and both curves are whole
            config = config.changed({"stop": how.held.stop, "stop_patience": how.steps + 1})
            held = {"weak": how.held.weak.rows, "gold": how.held.gold}
        return train(
            lesson.rows, model, config, seed=how.seed, folder=how.folder, steps=how.steps,
            teacher=load(lesson.teacher) if asks else None, on_step=how.on_step,
            looks=how.looks, checkpoints=how.checkpoints, validation=held,
        )  # fmt: skip

    def open(self, folder: str) -> "Loaded":
        """A causal language model."""
        from pilotfish.models import load

        return load(folder)

    def ask(
        self,
        model: "Loaded",
        rows: Sequence[Example],
        *,
        states: bool = False,
        votes: LabelConfig | None = None,
    ) -> Said:
        """Greedy answers, or voted ones, outer white space stripped as the metric does."""
        from pilotfish.engine.generate import answer

        room = self._room(model)
        if votes:
            found = predict_labels(
                rows, model, replace(votes, classes=(), max_new_tokens=room)
            ).labels
            return _stripped(found.label, found.reason, found.confidence)
        written = answer(model, rows, max_new_tokens=room)
        return _stripped(written.text, written.reason, written.confidence)

    def price(self, model: "Loaded", rows: Sequence[Example]) -> dict[str, float]:
        """Every answer as long as it may get."""
        from pilotfish.evaluation.items import UNBOUNDED
        from pilotfish.tokenization import encode_prompts

        room = self._room(model)
        asked = encode_prompts(rows, model.tokenizer, model.window or UNBOUNDED, room)
        mean = sum(len(row.ids) for row in asked) / max(len(asked), 1)
        return known(flops=answering_flops(model, len(rows), mean, room))

    def _room(self, model: "Loaded") -> int:
        from pilotfish.evaluation.exact_match import answer_room

        return answer_room(model, self.like)


def _stripped(text: Texts, reason: Texts, confidence: Floats) -> Said:
    label = np.array([str(one).strip() for one in text], dtype=object)
    why = np.where((label == "") & (reason == ""), "empty_answer", reason)
    return Said(label, why.astype(object), confidence)


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
