"""The NLL of known answers: held-out responses, and candidates to choose from."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pilotfish.engine.batches import default_budget, measure_rows
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
    """Measure the NLL of each response given its prompt.

    Every response token that the prompt predicts counts, the first one too; the end mark does not.

    Args:
        loaded: A causal language model.
        examples: The n rows.
        max_length: Tokens per row, at most the model's window.
        token_budget: Tokens per batch; None for a default of the device.

    Returns:
        Nats, tokens and reason [n].
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
    """Measure the NLL of candidate answers.

    The end mark counts, so that "no" is not cheaper than "none" just for being its beginning. A
    candidate that does not fit whole is unscorable (`prompt_over_limit`).

    Args:
        loaded: A causal language model.
        examples: The n rows; their own answers are not read.
        choices: The k candidates of each row.
        max_length: Tokens per row, at most the model's window.
        token_budget: Tokens per batch; None for a default of the device.

    Returns:
        For each row arrays [k] in the order of its candidates.
    """
    limit = clamp_max_length(max_length, loaded.window)
    answered = [
        replace(example, turns=(*example.prompt, Turn("assistant", choice)))
        if example.turns
        else replace(example, label=choice)
        for example, candidates in zip(examples, choices, strict=True)
        for choice in candidates
    ]
    rows = []
    for row in encode_training(answered, loaded.tokenizer, limit):
        if row.truncated and not row.reason:
            empty = row.ids[:0]
            row = replace(row, ids=empty, target=empty.astype(bool), reason="prompt_over_limit")
        rows.append(row)
    flat = _measure(loaded, rows, token_budget)
    ends = np.cumsum([len(candidates) for candidates in choices])[:-1]
    pieces = (np.split(column, ends) for column in (flat.total, flat.count, flat.reason))
    return [Measured(*columns) for columns in zip(*pieces, strict=True)] if examples else []


def _measure(loaded: Loaded, rows: Sequence[Encoded], token_budget: int | None) -> Measured:
    budget = token_budget or default_budget(loaded.device)
    found = measure_rows(rows, Forward(loaded), signal="nll", token_budget=budget)
    total, count = (np.asarray(found.columns[name]) for name in ("total", "count"))
    return Measured(total, count, found.reason)
