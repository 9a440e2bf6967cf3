"""Some rows through a model, outside shards: samples, rows near a cut, and states of prompts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pilotfish.engine.batches import measure_rows
from pilotfish.engine.forward import Forward
from pilotfish.engine.scorer import by_pass, run_pass
from pilotfish.models import Loaded
from pilotfish.records import Example, Floats, Measured, Need, RowFeatures
from pilotfish.tokenization import Encoded, clamp_max_length, encode_needs, encode_prompts


class InMemoryScorer:
    """A model that looks at rows as the scorer of shards does; batches are made of these rows."""

    def __init__(
        self, loaded: Loaded, needs: Sequence[Need], *, max_length: int, token_budget: int
    ) -> None:
        self._loaded, self._needs = loaded, needs
        self._limit = clamp_max_length(max_length, loaded.window)
        self._budget = token_budget
        self._forward = Forward(loaded)

    def __call__(self, examples: Sequence[Example]) -> RowFeatures:
        """All that is needed of the examples, in their order."""
        encoded = encode_needs(examples, self._needs, self._loaded.tokenizer, self._limit)
        measured: dict[Need, Measured] = {}
        for asked in by_pass(encoded):
            for need, found in run_pass(asked, self._forward, self._budget).items():
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
    """[n, d] the model's pooled state over each prompt, no answer in it; nan where there is none.

    Pooled as the signal `hidden` does: later tokens, which have seen more, weigh more.
    """
    prompts = encode_prompts(examples, loaded.tokenizer, loaded.window or 2**31, 0)
    rows = [_whole(prompt) for prompt in prompts]
    found = measure_rows(rows, Forward(loaded), signal="hidden", token_budget=token_budget)
    return np.asarray(found.columns["state"], dtype=np.float64)


def _whole(row: Encoded) -> Encoded:
    """Every token counts, the first one too: states are pooled, nothing is predicted."""
    return row if row.reason else replace(row, target=np.ones(len(row.ids), dtype=bool))
