"""Which labels are kept: abstention first, then filters, some of which use trusted rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.config import LabelConfig
from pilotfish.labeling.filters import Candidates, make_filter
from pilotfish.labeling.predict import LabelPredictions, predict_labels
from pilotfish.labeling.settings import resolve_config
from pilotfish.labeling.table import ABSTAINED, FILTERED, Labels
from pilotfish.records import Example

if TYPE_CHECKING:
    from pilotfish.models import Loaded

UNSURE = "confidence below --abstain-below"


@dataclass(frozen=True)
class TrustedPredictions:
    """A model's labels of trusted rows that it was not tuned on.

    Attributes:
        predictions: The labels and states of the rows [g].
        correct: Whether each label is the row's own answer [g].
    """

    predictions: LabelPredictions
    correct: NDArray[np.bool_]


@dataclass(frozen=True)
class Filtered:
    """Labels after the filters, and the facts that the filters report, by filter or fold."""

    labels: Labels
    facts: Mapping[str, Any] = field(default_factory=dict)


def label_rows(
    examples: Sequence[Example],
    weak: "Loaded",
    config: LabelConfig,
    *,
    trusted: Sequence[Example] = (),
    fold: int = -1,
) -> Labels:
    """Label rows in memory with one model and filter the labels; nothing is written.

    The rows' own answers are never shown to the model.

    Args:
        examples: The rows [n], which the model must not have been trained on.
        weak: The model.
        config: How to label; `folds` and the settings of training are not used.
        trusted: Trusted rows that the model was not tuned on, for the filter `trust`.
        fold: Recorded as the fold of the model.

    Raises:
        UsageError: The settings, the model and the rows do not fit each other.
    """
    check_filters(config)
    labels = [row.label for row in examples]
    config = resolve_config(config, lambda: weak, labels, lambda: own_answers(examples))
    known = None
    if "trust" in config.filter_names:
        known = predict_trusted(trusted, weak, config, fold=fold)
    predictions = predict_labels(examples, weak, config, fold=fold)
    return apply_filters(predictions, config, {fold: known}).labels


def check_filters(config: LabelConfig) -> None:
    """Raise UsageError where a filter is unknown or has a wrong setting."""
    for text in config.filters:
        make_filter(text)


def own_answers(examples: Iterable[Example]) -> Iterator[str]:
    """Yield the rows' own answers to prompts."""
    return (row.response for row in examples if row.turns)


def predict_trusted(
    rows: Sequence[Example], weak: "Loaded", config: LabelConfig, *, fold: int = -1
) -> TrustedPredictions | None:
    """Label trusted rows and compare with their answers; None without rows."""
    if not rows:
        return None
    predictions = predict_labels(rows, weak, config, fold=fold)
    pairs = zip(predictions.labels.label, rows, strict=True)
    correct = [is_own_answer(label, row) for label, row in pairs]
    return TrustedPredictions(predictions, np.array(correct, dtype=bool))


def is_own_answer(label: str, example: Example) -> bool:
    """Return whether a label equals the row's own answer, outer white space ignored."""
    return label.strip() == example.response.strip()


def apply_filters(
    predictions: LabelPredictions,
    config: LabelConfig,
    trusted: Mapping[int, TrustedPredictions | None],
) -> Filtered:
    """Set aside labels of low confidence, then those that each filter drops.

    Rows labelled by different models are filtered apart: their hidden states are not of one space,
    and a share to keep is a share of each model's rows.

    Args:
        predictions: Labels and states of the rows [n].
        config: The threshold of confidence and the filters.
        trusted: By fold, the same model's labels of trusted rows.
    """
    labels = predictions.labels
    if config.abstain_below is not None:
        with np.errstate(invalid="ignore"):
            unsure = ~(labels.confidence >= config.abstain_below)
        labels = labels.set_aside(unsure, ABSTAINED, UNSURE)
    if not config.filters:
        return Filtered(labels)
    predictions = replace(predictions, labels=labels)
    status, reason, facts = labels.status.copy(), labels.reason.copy(), dict[str, Any]()
    for fold in sorted({int(each) for each in labels.fold}):
        rows = np.flatnonzero(labels.fold == fold)
        part = _filter_fold(predictions.take(rows), config.filters, trusted.get(fold))
        status[rows], reason[rows] = part.labels.status, part.labels.reason
        if part.facts:
            facts |= part.facts if fold < 0 else {f"fold {fold}": part.facts}
    return Filtered(replace(labels, status=status, reason=reason), facts)


def _filter_fold(
    predictions: LabelPredictions, filters: Sequence[str], trusted: TrustedPredictions | None
) -> Filtered:
    """Apply the filters to the rows of one model, one after the other."""
    labels, facts = predictions.labels, dict[str, Any]()
    for text in filters:
        if not labels.ok.any():
            break
        label_filter = make_filter(text)
        candidates = Candidates(
            labels,
            predictions.states,
            trusted_labels=trusted.predictions.labels if trusted else None,
            trusted_states=trusted.predictions.states if trusted else None,
            trusted_correct=trusted.correct if trusted else None,
        )
        kept = label_filter.apply(candidates)
        name = text.split("(")[0].strip()
        reasons = np.array([f"{name}: {why}" for why in kept.reason], dtype=object)
        labels = labels.set_aside(~kept.kept, FILTERED, reasons)
        if found := label_filter.facts(candidates):
            facts[text] = found
    return Filtered(labels, facts)
