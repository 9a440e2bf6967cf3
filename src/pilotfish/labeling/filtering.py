"""label, after the model has answered: abstention, filters, and the gold rows they learn from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.labeling.answer import LabelPredictions, predict_labels
from pilotfish.labeling.filters import Candidates, make_filter
from pilotfish.labeling.settings import LabelConfig, resolve_config
from pilotfish.labeling.table import ABSTAINED, FILTERED, Labels
from pilotfish.records import Example

if TYPE_CHECKING:
    from pilotfish.models import Loaded

UNSURE = "confidence below --abstain-below"


@dataclass(frozen=True)
class Gold:
    """Rows with known answers that the model was not tuned on, as it labelled them."""

    looked: LabelPredictions
    right: NDArray[np.bool_]  # [g]


@dataclass(frozen=True)
class Filtered:
    """Labels with what was set aside, and what each filter says of itself."""

    labels: Labels
    facts: Mapping[str, Any] = field(default_factory=dict)


def label_rows(
    examples: Sequence[Example],
    weak: "Loaded",
    how: LabelConfig,
    *,
    gold: Sequence[Example] = (),
    fold: int = -1,
) -> Labels:
    """The weak model's labels of some rows; their own answers are never shown to it.

    gold: rows with known answers that the model was not tuned on, for the filter `trust`. Nothing
    is written, and `how.folds` is not looked at: this is one model over rows that it must not have
    learnt. UsageError where the settings, model and rows do not fit each other.
    """
    how.check()
    labels = [row.label for row in examples]
    how = resolve_config(how, lambda: weak, labels, lambda: own_answers(examples))
    known = gold_of(gold, weak, how, fold=fold) if how.wants_gold else None
    return apply_filter(predict_labels(examples, weak, how, fold=fold), how, {fold: known}).labels


def own_answers(examples: Iterable[Example]) -> Iterator[str]:
    """The rows' own answers to prompts."""
    return (row.response for row in examples if row.turns)


def gold_of(
    gold: Sequence[Example], weak: "Loaded", how: LabelConfig, *, fold: int = -1
) -> Gold | None:
    """What the model says to rows whose answer is known; None without rows."""
    if not gold:
        return None
    looked = predict_labels(gold, weak, how, fold=fold)
    right = [agrees(said, row) for said, row in zip(looked.labels.label, gold, strict=True)]
    return Gold(looked, np.array(right, dtype=bool))


def agrees(label: str, example: Example) -> bool:
    """Whether a label is the row's own answer, outer white space aside."""
    return label.strip() == example.response.strip()


def apply_filter(
    looked: LabelPredictions, how: LabelConfig, gold: Mapping[int, Gold | None]
) -> Filtered:
    """Set aside what is unsure, then what each filter drops.

    gold: by fold. Rows labelled by different models are filtered apart: their hidden states are
    not of one space, and a share kept is a share of each model's rows.
    """
    labels = looked.labels
    if how.abstain is not None:
        with np.errstate(invalid="ignore"):
            unsure = ~(labels.confidence >= how.abstain)
        labels = labels.set_aside(unsure, ABSTAINED, UNSURE)
    if not how.filters:
        return Filtered(labels)
    status, reason, facts = labels.status.copy(), labels.reason.copy(), dict[str, Any]()
    for fold in sorted({int(each) for each in labels.fold}):
        places = np.flatnonzero(labels.fold == fold)
        part, told = _filtered(_part(looked, labels, places), how, gold.get(fold))
        status[places], reason[places] = part.status, part.reason
        facts.update(told if fold < 0 else {f"fold {fold}": told} if told else {})
    return Filtered(replace(labels, status=status, reason=reason), facts)


def _part(looked: LabelPredictions, labels: Labels, places: NDArray[np.int64]) -> LabelPredictions:
    states = None if looked.states is None else looked.states[places]
    return LabelPredictions(labels.take(places), states)


def _filtered(
    looked: LabelPredictions, how: LabelConfig, gold: Gold | None
) -> tuple[Labels, dict[str, Any]]:
    labels, facts = looked.labels, dict[str, Any]()
    for text in how.filters:
        if not labels.ok.any():
            break
        chosen = make_filter(text)
        seen = Candidates(
            labels, looked.states,
            gold_labels=gold.looked.labels if gold else None,
            gold_states=gold.looked.states if gold else None,
            gold_right=gold.right if gold else None,
        )  # fmt: skip
        kept = chosen.sift(seen)
        labels = labels.set_aside(~kept.kept, FILTERED, _named(text, kept.reason))
        if told := chosen.facts(seen):
            facts[text] = told
    return labels, facts


def _named(text: str, reason: NDArray[Any]) -> NDArray[Any]:
    name = text.split("(")[0].strip()
    return np.array([f"{name}: {why}" for why in reason], dtype=object)
