"""The two tasks of weak-to-strong experiments, choose a class or write an answer; predictions."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pilotfish.config import LabelConfig
from pilotfish.errors import DataError, UsageError
from pilotfish.flops import answering_flops, known
from pilotfish.labeling.predict import predict_labels
from pilotfish.records import Example, Floats, Texts

if TYPE_CHECKING:
    from pilotfish.models import Loaded


@dataclass(frozen=True)
class Predictions:
    """Answers of one model to n rows.

    Attributes:
        label: [n] answers, "" for none.
        reason: [n] why an answer is missing or incomplete, "" for a whole one.
        confidence: [n] in [0, 1], nan where unknown.
        log_probs: [n, K] log-probabilities in nats, of classifiers.
        states: [n, d] hidden states, of classifiers.
    """

    label: Texts
    reason: Texts
    confidence: Floats
    log_probs: Floats | None = None
    states: Floats | None = None

    def to_table(self, rows: Sequence[Example]) -> pa.Table:
        """Arrange as columns: id, label, reason, confidence, and matrices as lists."""
        columns: dict[str, Any] = {
            "id": pa.array([row.id for row in rows], pa.string()),
            "label": pa.array([str(label) for label in self.label], pa.string()),
            "reason": pa.array([str(reason) for reason in self.reason], pa.string()),
            "confidence": pa.array(self.confidence, pa.float64()),
        }
        for name, values in (("log_probs", self.log_probs), ("states", self.states)):
            if values is not None:
                flat = pa.array(np.asarray(values, dtype=np.float64).ravel(), pa.float64())
                columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        return pa.table(columns)

    @classmethod
    def from_table(cls, table: pa.Table) -> "Predictions":
        """Read predictions from a table made by `to_table`."""

        def texts(name: str) -> Texts:
            return np.array(table.column(name).to_pylist(), dtype=object)

        def matrix(name: str) -> Floats | None:
            if name not in table.column_names:
                return None
            lists = table.column(name).combine_chunks()
            lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
            flat: Floats = lists.flatten().to_numpy(zero_copy_only=False)
            return flat.reshape(len(table), -1)

        confidence = table.column("confidence").to_numpy()
        return cls(
            texts("label"), texts("reason"), confidence, matrix("log_probs"), matrix("states")
        )


def is_correct(rows: Sequence[Example], labels: Texts) -> NDArray[np.bool_]:
    """Return [n] whether each label is the row's own answer, apart from outer white space.

    Args:
        rows: [n] rows with their true answers.
        labels: [n] labels of a model.
    """
    pairs = zip(rows, labels, strict=True)
    return np.array([row.response.strip() == label for row, label in pairs], dtype=bool)


@dataclass(frozen=True)
class ClassificationTask:
    """Texts with labels: a classification head on any encoder or language model."""

    classes: tuple[str, ...]
    max_length: int  # tokens of a text that are read
    metric: ClassVar[str] = "accuracy"
    kinds: ClassVar[tuple[str, ...]] = ("soft", "hard")  # of labels; the first is the default

    def default_loss(self, kind: str) -> str:
        """Return the LOSS of students if the recipe names none."""
        return "soft_ce" if kind == "soft" else "lm"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that decide a prediction, together with model and row."""
        return {"classes": list(self.classes), "max_length": self.max_length}

    def load(self, folder: str) -> "Loaded":
        """Load a trained classifier of these classes."""
        from pilotfish.models import load_classifier

        return load_classifier(folder, self.classes)

    def predict(
        self,
        model: "Loaded",
        rows: Sequence[Example],
        *,
        states: bool = False,
        votes: LabelConfig | None = None,
    ) -> Predictions:
        """Predict the likeliest class of every row.

        Args:
            model: A classifier of these classes.
            rows: [n] rows.
            states: Whether to return hidden states.
            votes: Always None: classes are not sampled.
        """
        from pilotfish.engine.classify import classify

        found = classify(model, rows, max_length=self.max_length, states=states)
        usable = found.reason == ""
        names = np.array(self.classes, dtype=object)
        best = np.argmax(np.where(usable[:, None], found.log_probs, 0.0), axis=1)
        top = np.exp(np.max(found.log_probs, axis=1, initial=-np.inf))
        label = np.where(usable, names[best], "").astype(object)
        confidence = np.where(usable, np.minimum(top, 1.0), np.nan)
        return Predictions(label, found.reason, confidence, found.log_probs, found.states)

    def cost(self, model: "Loaded", rows: Sequence[Example]) -> dict[str, float]:
        """Count tokens and FLOPs of reading every text once, as far as they are known."""
        from pilotfish.tokenization import clamp_max_length, encode_texts
        from pilotfish.training.cost import reading

        limit = clamp_max_length(self.max_length, model.window)
        lengths = [len(row.ids) for row in encode_texts(rows, model.tokenizer, limit)]
        return known(tokens=float(sum(lengths)), flops=reading(model, lengths))


@dataclass(frozen=True)
class GenerationTask:
    """Prompts with answers: causal language models write them, and exact match is the metric."""

    answers: tuple[str, ...]  # of the weak half: they bound how long a prediction may get
    classes: ClassVar[tuple[str, ...]] = ()
    metric: ClassVar[str] = "exact_match"
    kinds: ClassVar[tuple[str, ...]] = ("hard", "consistency")  # of labels; the first by default

    def default_loss(self, kind: str) -> str:
        """Return the LOSS of students if the recipe names none."""
        return "lm"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that decide a prediction, together with model and row."""
        return {"like": hashlib.sha256("\n".join(self.answers).encode()).hexdigest()}

    def load(self, folder: str) -> "Loaded":
        """Load a trained language model."""
        from pilotfish.models import load

        return load(folder)

    def predict(
        self,
        model: "Loaded",
        rows: Sequence[Example],
        *,
        states: bool = False,
        votes: LabelConfig | None = None,
    ) -> Predictions:
        """Write an answer to every prompt, without outer white space.

        Args:
            model: A causal language model.
            rows: [n] rows.
            states: Ignored: filters of free answers use no hidden states.
            votes: How answers are sampled to take the most frequent one; None: greedy.
        """
        from pilotfish.engine.generate import answer

        room = self._room(model)
        if votes:
            voted = predict_labels(
                rows, model, votes.model_copy(update={"classes": [], "max_new_tokens": room})
            ).labels
            text, reason, confidence = voted.label, voted.reason, voted.confidence
        else:
            greedy = answer(model, rows, max_new_tokens=room)
            text, reason, confidence = greedy.text, greedy.reason, greedy.confidence
        label = np.array([str(one).strip() for one in text], dtype=object)
        reason = np.where((label == "") & (reason == ""), "empty_answer", reason)
        return Predictions(label, reason.astype(object), confidence)

    def cost(self, model: "Loaded", rows: Sequence[Example]) -> dict[str, float]:
        """Count the FLOPs of answers of the greatest length, as far as they are known."""
        from pilotfish.evaluation.items import UNBOUNDED
        from pilotfish.tokenization import encode_prompts

        room = self._room(model)
        prompts = encode_prompts(rows, model.tokenizer, model.window or UNBOUNDED, room)
        mean = sum(len(prompt.ids) for prompt in prompts) / max(len(prompts), 1)
        return known(flops=answering_flops(model, len(rows), mean, room))

    def _room(self, model: "Loaded") -> int:
        from pilotfish.evaluation.exact_match import answer_room

        return answer_room(model, self.answers)


Task = ClassificationTask | GenerationTask


def task_of(weak: Sequence[Example], others: Sequence[Example], max_length: int) -> Task:
    """Find the task of some rows: a class to choose, or an answer to write.

    Args:
        weak: Rows of the weak half.
        others: Rows of all other parts.
        max_length: Tokens of a text that a classifier reads.

    Raises:
        UsageError: The rows are of neither kind, or of both.
        DataError: All labels are the same, or the weak half lacks a class of another part.
    """
    rows = [*weak, *others]
    labelled = [row.label is not None for row in rows]
    if not all(labelled):
        if any(labelled) or not all(row.turns for row in rows):
            raise UsageError(
                "a weak-to-strong experiment needs texts with labels, or prompts with answers; "
                "these rows are neither, or both",
                hint="name the columns, as map: {text: sentence, label: label}",
            )
        return GenerationTask(tuple(sorted({row.response for row in weak})))
    classes = {str(row.label) for row in weak}
    if unknown := sorted({str(row.label) for row in others} - classes):
        raise DataError(
            f"no row of the weak half is labelled {', '.join(unknown[:5])}: "
            "the weak model could not learn it",
            hint="raise weak_rows, or leave that label out of the data",
        )
    if len(classes) < 2:
        raise DataError("all rows have the same label: there is nothing to learn")
    return ClassificationTask(tuple(sorted(classes)), max_length)
