"""label, of rows in memory: how one model answers them, and how sure it is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pilotfish.errors import UsageError
from pilotfish.extras import need_torch
from pilotfish.labeling.settings import LONGEST_ANSWER, LabelConfig
from pilotfish.labeling.table import FAILED, OK, Labels
from pilotfish.records import Example, Floats, Texts, Turn

if TYPE_CHECKING:
    from pilotfish.engine.generate import Generated
    from pilotfish.models import Loaded

# of a row with a candidate answer, whichever of its tokens was the first to be cut off
_TOO_LONG = {"no_response_tokens": "prompt_over_limit"}


@dataclass(frozen=True)
class LabelPredictions:
    """What a model said to some rows, before anything is set aside."""

    labels: Labels
    states: Floats | None = None  # [n, d] of the prompts alone, nan where unmeasured


def predict_labels(
    examples: Sequence[Example], weak: "Loaded", how: LabelConfig, *, fold: int = -1
) -> LabelPredictions:
    """The model's answers to rows; statuses are `ok` or `failed`. `how` must be settled."""
    need_torch("labelling")
    rows = [unanswered(example) for example in examples]
    labels = _answers(rows, weak, how)
    labels = replace(labels, fold=np.full(len(rows), fold, dtype=np.int64))
    return LabelPredictions(
        labels, _states(rows, weak, how.max_length) if how.wants_states else None
    )


def has_head(weak: "Loaded") -> bool:
    """Whether a loaded model answers by a classification head."""
    return type(weak.model).__name__.endswith("ForSequenceClassification")


def check_head(name: str, how: LabelConfig) -> None:
    """UsageError where a classification head is asked for what it cannot say."""
    if how.kind == "consistency" or not how.classes:
        raise UsageError(
            f"{name} answers by a classification head: its labels are hard or soft, "
            "and its classes known",
            hint="--kind soft, with --classes a,b where the data does not name them",
        )


def unanswered(example: Example) -> Example:
    """The row without its own answer; a text alone asks for a label."""
    if example.turns:
        return replace(example, turns=example.prompt)
    return replace(example, label="")


def is_answered(example: Example, answer: str) -> Example:
    """The row with another answer."""
    if example.turns:
        return replace(example, turns=(*example.prompt, Turn("assistant", answer)))
    return replace(example, label=answer.strip())


def _answers(rows: Sequence[Example], weak: "Loaded", how: LabelConfig) -> Labels:
    if has_head(weak):
        check_head(weak.name, how)
    if how.classes:
        return _chosen(rows, weak, how, how.classes)
    return _voted(rows, weak, how) if how.kind == "consistency" else _greedy(rows, weak, how)


def _greedy(rows: Sequence[Example], weak: "Loaded", how: LabelConfig) -> Labels:
    from pilotfish.engine.generate import answer

    found = answer(weak, rows, max_new_tokens=how.max_new_tokens or LONGEST_ANSWER)
    return _labels(rows, weak, found.text, found.reason, found.confidence)


def _voted(rows: Sequence[Example], weak: "Loaded", how: LabelConfig) -> Labels:
    """The most frequent of the sampled answers; one that is not whole agrees with nothing."""
    from pilotfish.engine.sampling import sample

    drawn = sample(
        weak, rows, samples=how.samples, temperature=how.temperature, seed=how.seed,
        max_new_tokens=how.max_new_tokens or LONGEST_ANSWER,
    )  # fmt: skip
    votes = [(0.0, "", one) if isinstance(one, str) else vote(one) for one in drawn]
    share = np.array([one[0] for one in votes], dtype=np.float64)
    text, reason = (np.array([one[i] for one in votes], dtype=object) for i in (1, 2))
    found = _labels(rows, weak, text, reason, share)
    return replace(found, consistency=found.confidence.copy())


def vote(drawn: Sequence["Generated"]) -> tuple[float, str, str]:
    """(share of all samples, answer, "") of the most frequent answer, else (0, "", reason).

    Answers are compared by case-folded words; a tie goes to the one drawn first, as drawn first.
    """
    whole = [one for one in drawn if not one.reason]
    if not whole:
        return 0.0, "", drawn[0].reason
    counts = Counter(normal(one.text) for one in whole)
    best = max(counts, key=lambda key: counts[key])  # the first of equals: counted in drawn order
    said = next(one.text for one in whole if normal(one.text) == best)
    return counts[best] / len(drawn), said, ""


def normal(text: str) -> str:
    """What of an answer counts when answers are compared."""
    return " ".join(text.casefold().split())


def _chosen(
    rows: Sequence[Example], weak: "Loaded", how: LabelConfig, classes: tuple[str, ...]
) -> Labels:
    """The likeliest class, ties going to the first; with all probabilities where they are soft."""
    log_probs, reason = _log_probs(rows, weak, classes, how.max_length)
    usable = np.isfinite(log_probs).all(axis=1) & (reason == "")
    probs = np.where(usable[:, None], np.exp(log_probs), np.nan)
    probs /= probs.sum(axis=1, keepdims=True)
    names = np.array(classes, dtype=object)
    best = np.argmax(np.where(usable[:, None], probs, 0.0), axis=1)
    text = np.where(usable, names[best], "").astype(object)
    sure = probs[np.arange(len(rows)), best]
    found = _labels(rows, weak, text, np.where(usable | (reason != ""), reason, "nonfinite"), sure)
    return replace(found, classes=classes, probs=probs if how.kind == "soft" else None)


def _log_probs(
    rows: Sequence[Example], weak: "Loaded", classes: Sequence[str], max_length: int
) -> tuple[Floats, Texts]:
    """[n, k] log-probabilities of the classes, and [n] why there are none."""
    if has_head(weak):
        from pilotfish.engine.classify import classify

        judged = classify(weak, rows, max_length=max_length)
        return judged.log_probs, judged.reason
    from pilotfish.engine.likelihood import choice_nll

    found = choice_nll(weak, rows, [list(classes)] * len(rows), max_length=max_length)
    nats = -np.array([one.total for one in found], dtype=np.float64).reshape(len(rows), -1)
    reasons = [next((_TOO_LONG.get(why, why) for why in one.reason if why), "") for one in found]
    top = np.max(nats, axis=1, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        whole = top + np.log(np.exp(nats - top).sum(axis=1, keepdims=True))
        return nats - whole, np.array(reasons, dtype=object)


def _labels(
    rows: Sequence[Example], weak: "Loaded", text: Texts, reason: Texts, confidence: Floats
) -> Labels:
    """A table of answers; those with a reason failed, and nobody is sure of them."""
    failed, n = reason != "", len(rows)
    return Labels(
        ids=_texts([row.id for row in rows]),
        label=_texts(
            [str(t) if r.turns else str(t).strip() for t, r in zip(text, rows, strict=True)]
        ),
        status=np.where(failed, FAILED, OK).astype(object),
        reason=reason.astype(object),
        confidence=np.where(failed, np.nan, confidence).astype(np.float64),
        round=np.zeros(n, dtype=np.int64),
        fold=np.full(n, -1, dtype=np.int64),
        by=np.full(n, weak.digest, dtype=object),
    )


def _texts(values: Sequence[str]) -> Texts:
    found: Texts = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _states(rows: Sequence[Example], weak: "Loaded", max_length: int) -> Floats:
    """[n, d] the model's states over each prompt, later tokens weighing more; no answer in them."""
    if has_head(weak):
        from pilotfish.engine.classify import classify

        found = classify(weak, rows, max_length=max_length, states=True).states
        return np.full((len(rows), 1), np.nan) if found is None else found
    from pilotfish.engine.batches import default_budget
    from pilotfish.engine.in_memory import prompt_states

    return prompt_states(weak, rows, token_budget=default_budget(weak.device))
