"""Labels of rows in memory: how one model answers them, and how sure it is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pilotfish.config import LabelConfig
from pilotfish.errors import UsageError, need_torch
from pilotfish.labeling.settings import LONGEST_ANSWER
from pilotfish.labeling.table import FAILED, OK, Labels
from pilotfish.records import Example, Floats, Ints, Texts, Turn

if TYPE_CHECKING:
    from pilotfish.engine.generate import Generated
    from pilotfish.models import Loaded

# the reason of a row with a candidate answer, whichever of its tokens was the first to be cut off
_TOO_LONG = {"no_response_tokens": "prompt_over_limit"}
_NEED_STATES = {"knn", "trust"}  # filters that use the model's hidden states


@dataclass(frozen=True)
class LabelPredictions:
    """A model's labels of some rows, before filters.

    Attributes:
        labels: The labels [n].
        states: Hidden states [n, d] over the prompts alone, nan where not measured; None where no
            filter needs them.
    """

    labels: Labels
    states: Floats | None = None

    def take(self, rows: Ints) -> "LabelPredictions":
        """Return some rows, in the order given."""
        states = None if self.states is None else self.states[rows]
        return LabelPredictions(self.labels.take(rows), states)


def predict_labels(
    examples: Sequence[Example], weak: "Loaded", config: LabelConfig, *, fold: int = -1
) -> LabelPredictions:
    """Label rows with one model; the rows' own answers are never shown to it.

    Args:
        examples: The rows [n].
        weak: The model.
        config: How to label; `classes` and `max_new_tokens` must be resolved.
        fold: Recorded as the fold of the model.

    Returns:
        Labels whose status is `ok` or `failed`.

    Raises:
        UsageError: The model has a classification head, and no classes are known.
    """
    need_torch("labelling")
    rows = [without_answer(example) for example in examples]
    if has_head(weak):
        check_head(weak.name, config)
    if config.classes:
        labels = _likeliest_class(rows, weak, config, tuple(config.classes))
    elif config.kind == "consistency":
        labels = _majority_answer(rows, weak, config)
    else:
        from pilotfish.engine.generate import answer

        found = answer(weak, rows, max_new_tokens=config.max_new_tokens or LONGEST_ANSWER)
        labels = _labels(rows, weak, found.text, found.reason, found.confidence)
    labels = replace(labels, fold=np.full(len(rows), fold, dtype=np.int64))
    return LabelPredictions(
        labels, _states(rows, weak, config.max_length) if needs_states(config) else None
    )


def needs_states(config: LabelConfig) -> bool:
    """Return whether a filter uses hidden states."""
    return bool(config.filter_names & _NEED_STATES)


def has_head(weak: "Loaded") -> bool:
    """Return whether a loaded model answers by a classification head."""
    return type(weak.model).__name__.endswith("ForSequenceClassification")


def check_head(name: str, config: LabelConfig) -> None:
    """Raise UsageError where a classification head cannot give the labels that are wanted."""
    if config.kind == "consistency" or not config.classes:
        raise UsageError(
            f"{name} answers by a classification head: its labels are hard or soft, "
            "and its classes must be known",
            hint="--kind soft, with --classes a,b where the data does not name them",
        )


def without_answer(example: Example) -> Example:
    """Return the row without its own answer; of a text with a label, the text alone."""
    if example.turns:
        return replace(example, turns=example.prompt)
    return replace(example, label="")


def with_answer(example: Example, answer: str) -> Example:
    """Return the row with another answer."""
    if example.turns:
        return replace(example, turns=(*example.prompt, Turn("assistant", answer)))
    return replace(example, label=answer.strip())


def _majority_answer(rows: Sequence[Example], weak: "Loaded", config: LabelConfig) -> Labels:
    """Sample answers and take the most frequent one; incomplete answers agree with nothing."""
    from pilotfish.engine.sampling import sample

    drawn = sample(
        weak,
        rows,
        samples=config.samples,
        temperature=config.temperature,
        seed=config.seed,
        max_new_tokens=config.max_new_tokens or LONGEST_ANSWER,
    )
    votes = [(0.0, "", one) if isinstance(one, str) else vote(one) for one in drawn]
    share = np.array([one[0] for one in votes], dtype=np.float64)
    text, reason = (np.array([one[i] for one in votes], dtype=object) for i in (1, 2))
    labels = _labels(rows, weak, text, reason, share)
    return replace(labels, consistency=labels.confidence.copy())


def vote(drawn: Sequence["Generated"]) -> tuple[float, str, str]:
    """Find the most frequent of some sampled answers.

    Answers are compared by case-folded words; a tie goes to the one drawn first.

    Returns:
        (share of all samples, answer as drawn first, ""), or (0, "", reason) where no sample is
        complete.
    """
    complete = [one for one in drawn if not one.reason]
    if not complete:
        return 0.0, "", drawn[0].reason
    counts = Counter(_normal(one.text) for one in complete)
    best = max(counts, key=lambda key: counts[key])  # the first of equals: counted in drawn order
    text = next(one.text for one in complete if _normal(one.text) == best)
    return counts[best] / len(drawn), text, ""


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def _likeliest_class(
    rows: Sequence[Example], weak: "Loaded", config: LabelConfig, classes: tuple[str, ...]
) -> Labels:
    """Take the likeliest class, ties going to the first; keep all probabilities for soft labels."""
    log_probs, reason = _class_log_probs(rows, weak, classes, config.max_length)
    usable = np.isfinite(log_probs).all(axis=1) & (reason == "")
    probs = np.where(usable[:, None], np.exp(log_probs), np.nan)
    probs /= probs.sum(axis=1, keepdims=True)
    names = np.array(classes, dtype=object)
    best = np.argmax(np.where(usable[:, None], probs, 0.0), axis=1)
    text = np.where(usable, names[best], "").astype(object)
    confidence = probs[np.arange(len(rows)), best]
    reason = np.where(usable | (reason != ""), reason, "nonfinite")
    labels = _labels(rows, weak, text, reason, confidence)
    return replace(labels, classes=classes, probs=probs if config.kind == "soft" else None)


def _class_log_probs(
    rows: Sequence[Example], weak: "Loaded", classes: Sequence[str], max_length: int
) -> tuple[Floats, Texts]:
    """Return log-probabilities of the classes [n, k], and the reason why a row has none [n]."""
    if has_head(weak):
        from pilotfish.engine.classify import classify

        found = classify(weak, rows, max_length=max_length)
        return found.log_probs, found.reason
    from pilotfish.engine.likelihood import choice_nll

    choices = choice_nll(weak, rows, [list(classes)] * len(rows), max_length=max_length)
    nats = -np.array([one.total for one in choices], dtype=np.float64).reshape(len(rows), -1)
    reasons = [next((_TOO_LONG.get(why, why) for why in one.reason if why), "") for one in choices]
    top = np.max(nats, axis=1, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        total = top + np.log(np.exp(nats - top).sum(axis=1, keepdims=True))
        return nats - total, np.array(reasons, dtype=object)


def _labels(
    rows: Sequence[Example], weak: "Loaded", text: Texts, reason: Texts, confidence: Floats
) -> Labels:
    """Make a table of answers; those with a reason failed and have no confidence."""
    failed, n = reason != "", len(rows)
    ids: Texts = np.empty(n, dtype=object)
    ids[:] = [row.id for row in rows]
    label: Texts = np.empty(n, dtype=object)
    label[:] = [str(t) if r.turns else str(t).strip() for t, r in zip(text, rows, strict=True)]
    return Labels(
        ids=ids,
        label=label,
        status=np.where(failed, FAILED, OK).astype(object),
        reason=reason.astype(object),
        confidence=np.where(failed, np.nan, confidence).astype(np.float64),
        round=np.zeros(n, dtype=np.int64),
        fold=np.full(n, -1, dtype=np.int64),
        by=np.full(n, weak.digest, dtype=object),
    )


def _states(rows: Sequence[Example], weak: "Loaded", max_length: int) -> Floats:
    """Measure the hidden state [n, d] of each prompt: a mean in which later tokens weigh more."""
    if has_head(weak):
        from pilotfish.engine.classify import classify

        found = classify(weak, rows, max_length=max_length, states=True).states
        return np.full((len(rows), 1), np.nan) if found is None else found
    from pilotfish.engine.batches import default_budget
    from pilotfish.engine.in_memory import prompt_states

    return prompt_states(weak, rows, token_budget=default_budget(weak.device))
