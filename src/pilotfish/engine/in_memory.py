"""Measure rows in memory, without shards: samples, rows near a cut, and states of prompts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pilotfish.engine.batches import measure_rows
from pilotfish.engine.forward import Forward
from pilotfish.engine.scorer import by_pass, run_pass
from pilotfish.models import Loaded
from pilotfish.records import Example, Floats, Measured, Need, RowFeatures
from pilotfish.tokenization import clamp_max_length, encode_needs, encode_prompts


class InMemoryScorer:
    """Measures rows as `ShardScorer` does; batches are made of the rows of one call."""

    def __init__(
        self, loaded: Loaded, needs: Sequence[Need], *, max_length: int, token_budget: int
    ) -> None:
        """Prepare a scorer.

        Args:
            loaded: The model.
            needs: What to measure; the first one's token counts are returned.
            max_length: Tokens per row, at most the model's window.
            token_budget: Tokens per batch.
        """
        self._loaded, self._needs = loaded, needs
        self._limit = clamp_max_length(max_length, loaded.window)
        self._budget = token_budget
        self._forward = Forward(loaded)

    def __call__(self, examples: Sequence[Example]) -> RowFeatures:
        """Return the features of the examples, in their order."""
        encoded = encode_needs(examples, self._needs, self._loaded.tokenizer, self._limit)
        measured: dict[Need, Measured] = {}
        for group in by_pass(encoded):
            for need, found in run_pass(group, self._forward, self._budget).items():
                values = dict(found.columns)
                total, count = (np.asarray(values.pop(name)) for name in ("total", "count"))
                measured[need] = Measured(total, count, found.reason, values)
        first = encoded[self._needs[0]]
        return RowFeatures(
            ids=np.array([example.id for example in examples], dtype=object),
            n_prompt_tokens=np.array([row.n_prompt for row in first], dtype=np.int64),
            n_response_tokens=np.array([row.n_response for row in first], dtype=np.int64),
            measured=measured,
        )


def prompt_states(loaded: Loaded, examples: Sequence[Example], *, token_budget: int) -> Floats:
    """Return [n, d] the pooled hidden state of each prompt without its answer; nan without one.

    Pooled as the signal `hidden` is: later tokens weigh more.
    """
    prompts = encode_prompts(examples, loaded.tokenizer, loaded.window or 2**31, 0)
    rows = [  # all tokens count, the first one too: states are pooled, nothing is predicted
        row if row.reason else replace(row, target=np.ones(len(row.ids), dtype=bool))
        for row in prompts
    ]
    found = measure_rows(rows, Forward(loaded), signal="hidden", token_budget=token_budget)
    return np.asarray(found.columns["state"], dtype=np.float64)
