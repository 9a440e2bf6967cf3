"""What models of a weak-to-strong experiment say to rows, and rows as such labels teach them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pilotfish.labeling.table import FAILED, OK, Labels
from pilotfish.records import Example, Floats, Texts, Turn


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

    def labels(
        self, rows: Sequence[Example], classes: Sequence[str], by: str, *, voted: bool = False
    ) -> Labels:
        """The same as a table of labels, made by the model with the digest `by`.

        voted: whether the confidence is the share of sampled answers that agree.
        """
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
            consistency=self.confidence if voted else None,
        )


@dataclass(frozen=True)
class Lesson:
    """Rows as they are taught, and a probability per class where labels are soft."""

    rows: Sequence[Example]
    probs: Floats | None = None  # [n, K]
    teacher: str = ""  # folder of the model that taught, for losses that ask it anew


@dataclass(frozen=True)
class Held:
    """Validation rows as the weak model labels them, and the same rows with their true labels.

    stop: by which of the two, "weak" or "gold", the step that is kept is chosen.
    """

    weak: Lesson
    gold: Sequence[Example]
    stop: str


def lesson(
    rows: Sequence[Example],
    said: Said,
    usable: NDArray[np.bool_],
    *,
    soft: bool = True,
    teacher: str = "",
) -> Lesson:
    """The usable rows with the labels a model gave them; nothing of their own labels is left.

    soft: with its probabilities, where it gave any.
    """
    places = np.flatnonzero(usable).tolist()
    probs = np.exp(said.log_probs[places]) if soft and said.log_probs is not None else None
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
