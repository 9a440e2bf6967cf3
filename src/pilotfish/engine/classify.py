"""What a classifier says to texts: log-probabilities of the classes, and states to look at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pilotfish.engine.batch_plan import plan
from pilotfish.engine.batches import default_budget
from pilotfish.models import Loaded
from pilotfish.records import Example, Floats, Texts
from pilotfish.tokenization import Encoded, clamp_max_length, encode_texts

MAX_LENGTH = 512


@dataclass(frozen=True)
class Predictions:
    """n texts judged by one classifier. Rows with a reason hold nan.

    log_probs [n, K] nats; states [n, d] or None: mean of the last hidden states of an encoder, the
    last token's of a causal model. reason [n]: "" where there is a prediction.
    """

    log_probs: Floats
    reason: Texts
    states: Floats | None = None
    truncated: NDArray[np.bool_] | None = None


def classify(
    loaded: Loaded,
    examples: Sequence[Example],
    *,
    max_length: int | None = None,
    states: bool = False,
    token_budget: int | None = None,
) -> Predictions:
    """Ask a classifier (`models.load_classifier`) about texts, many at a time, dropout off.

    Neither order, batches nor padding change a number beyond fp32 rounding. max_length: tokens
    read of a text; None: 512, at most the model's window.
    """
    limit = clamp_max_length(max_length or MAX_LENGTH, loaded.window)
    rows = encode_texts(examples, loaded.tokenizer, limit)
    usable = [i for i, row in enumerate(rows) if not row.reason]
    logs = np.full((len(rows), _classes(loaded)), np.nan)
    seen: Floats | None = None
    for places, found, pooled in _batches(loaded, rows, usable, states, token_budget):
        logs[places] = found
        if pooled is not None:
            seen = np.full((len(rows), pooled.shape[1]), np.nan) if seen is None else seen
            seen[places] = pooled
    reason = np.array([row.reason for row in rows], dtype=object)
    finite = np.isfinite(logs).all(axis=1)
    reason[~finite & (reason == "")] = "nonfinite"
    logs[~finite] = np.nan
    return Predictions(logs, reason, seen, np.array([row.truncated for row in rows], dtype=bool))


def _classes(loaded: Loaded) -> int:
    return int(loaded.model.config.num_labels)


def _batches(
    loaded: Loaded,
    rows: Sequence[Encoded],
    usable: Sequence[int],
    states: bool,
    token_budget: int | None,
) -> Iterator[tuple[NDArray[np.int64], Floats, Floats | None]]:
    places = np.array(usable, dtype=np.int64)
    budget = token_budget or default_budget(loaded.device)
    loaded.model.eval()
    for batch in plan([len(rows[i].ids) for i in usable], budget):
        ids, mask = padded([rows[i] for i in places[batch]])
        with torch.inference_mode():
            logits, pooled = read(
                loaded.model, ids.to(loaded.device), mask.to(loaded.device), states=states
            )
            logs = torch.log_softmax(logits.double(), -1).cpu().numpy()
        yield places[batch], logs, None if pooled is None else pooled.double().cpu().numpy()


def padded(rows: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """(ids, mask) [b, t] int64, padded on the right with id 0, a real token for many tokenizers."""
    lengths = np.array([len(row.ids) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, dtype=np.int64)
    ids[mask] = np.concatenate([row.ids for row in rows])
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


def read(
    model: Any, ids: Tensor, mask: Tensor, *, states: bool = False
) -> tuple[Tensor, Tensor | None]:
    """(logits [b, K], pooled states [b, d] where asked for) of a padded batch.

    Of a causal model the last real token by the mask: its own code would look for the padding id,
    which may be a real token.
    """
    score = getattr(model, "score", None)
    if score is not None:
        body = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        last = body.last_hidden_state[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]
        return score(last), last if states else None
    out = model(input_ids=ids, attention_mask=mask, output_hidden_states=states)
    if not states:
        return out.logits, None
    weights = mask[..., None].to(out.logits.dtype)
    return out.logits, (out.hidden_states[-1] * weights).sum(1) / weights.sum(1)
