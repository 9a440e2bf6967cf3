"""What known answers cost a model: held-out responses, and candidates to choose from."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pilotfish.engine.batches import default_budget, measure_rows
from pilotfish.engine.classify import Predictions
from pilotfish.engine.forward import Forward
from pilotfish.models import Loaded
from pilotfish.records import Example, Measured, Need, Turn
from pilotfish.tokenization import Encoded, clamp_max_length, encode_scoring, encode_training


def response_nll(
    loaded: Loaded,
    examples: Sequence[Example],
    *,
    max_length: int,
    token_budget: int | None = None,
) -> Measured:
    """Nats, tokens and reason [n] of each response given its prompt.

    Every response token the prompt predicts counts, the first one too; the end marker does not.
    """
    limit = clamp_max_length(max_length, loaded.window)
    rows = encode_scoring(examples, Need("nll", aligned=False), loaded.tokenizer, limit)
    return _measure(loaded, rows, token_budget)


def choice_nll(
    loaded: Loaded,
    examples: Sequence[Example],
    choices: Sequence[Sequence[str]],
    *,
    max_length: int,
    token_budget: int | None = None,
) -> list[Measured]:
    """For each example, what each of its candidate answers costs: arrays [k] in `choices` order.

    The end marker counts, so that "no" is not cheaper than "none" just for being its beginning.
    A candidate that does not fit whole is unscorable (`prompt_over_limit`).
    """
    limit = clamp_max_length(max_length, loaded.window)
    asked = [
        _answered(example, choice)
        for example, some in zip(examples, choices, strict=True)
        for choice in some
    ]
    rows = [_whole(row) for row in encode_training(asked, loaded.tokenizer, limit)]
    flat = _measure(loaded, rows, token_budget)
    ends = np.cumsum([len(some) for some in choices])[:-1]
    pieces = (np.split(column, ends) for column in (flat.total, flat.count, flat.reason))
    return [Measured(*columns) for columns in zip(*pieces, strict=True)] if examples else []


def choices(
    loaded: Loaded,
    examples: Sequence[Example],
    classes: Sequence[str],
    *,
    max_length: int,
    token_budget: int | None = None,
) -> Predictions:
    """A language model asked as a classifier: log softmax over what each class costs as an answer.

    The cost is summed over the answer's tokens and its end mark, as in `choice_nll`. A row with a
    class that cannot be scored has that one's reason.
    """
    found = choice_nll(
        loaded,
        examples,
        [classes] * len(examples),
        max_length=max_length,
        token_budget=token_budget,
    )
    costs = np.stack([one.total for one in found]) if found else np.zeros((0, len(classes)))
    reason = np.array([next(filter(None, one.reason), "") for one in found], dtype=object)
    unknown = ~np.isfinite(costs).all(axis=1)
    reason[unknown & (reason == "")] = "nonfinite"
    costs[unknown] = 0.0  # nothing to warn about: these rows say nothing
    logs = -costs - np.logaddexp.reduce(-costs, axis=1, keepdims=True)
    logs[unknown] = np.nan
    return Predictions(logs, reason)


def _answered(example: Example, answer: str) -> Example:
    if not example.turns:
        return replace(example, label=answer)
    return replace(example, turns=(*example.prompt, Turn("assistant", answer)))


def _whole(row: Encoded) -> Encoded:
    if not row.truncated or row.reason:
        return row
    nothing = row.ids[:0]
    return replace(row, ids=nothing, target=nothing.astype(bool), reason="prompt_over_limit")


def _measure(loaded: Loaded, rows: Sequence[Encoded], token_budget: int | None) -> Measured:
    budget = token_budget or default_budget(loaded.device)
    found = measure_rows(rows, Forward(loaded), signal="nll", token_budget=budget)
    total, count = (np.asarray(found.columns[name]) for name in ("total", "count"))
    return Measured(total, count, found.reason)
