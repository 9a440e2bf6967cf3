"""Predictions of a classifier: log-probabilities of its classes, and pooled states."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pilotfish.engine.batches import default_budget, plan
from pilotfish.models import Loaded
from pilotfish.records import Example, Floats, Texts
from pilotfish.tokenization import Encoded, clamp_max_length, encode_texts

MAX_LENGTH = 512


@dataclass(frozen=True)
class Predictions:
    """What a classifier predicts for n texts; rows with a reason hold nan."""

    log_probs: Floats  # [n, k] nats
    reason: Texts  # [n] "" where there is a prediction
    states: Floats | None  # [n, d] mean last hidden state of an encoder, last token's of a decoder
    truncated: NDArray[np.bool_]  # [n]


def classify(
    loaded: Loaded,
    examples: Sequence[Example],
    *,
    max_length: int | None = None,
    states: bool = False,
    token_budget: int | None = None,
) -> Predictions:
    """Classify texts in batches, dropout off.

    Order, batches and padding change no number beyond fp32 rounding.

    Args:
        loaded: A classifier of `models.load_classifier`.
        examples: The n texts.
        max_length: Tokens read of a text, at most the model's window; None for 512.
        states: Whether to return pooled states too.
        token_budget: Tokens per batch; None for a default of the device.
    """
    limit = clamp_max_length(max_length or MAX_LENGTH, loaded.window)
    rows = encode_texts(examples, loaded.tokenizer, limit)
    usable = np.array([i for i, row in enumerate(rows) if not row.reason], dtype=np.int64)
    logs = np.full((len(rows), int(loaded.model.config.num_labels)), np.nan)
    pooled: Floats | None = None
    loaded.model.eval()
    budget = token_budget or default_budget(loaded.device)
    for batch in plan([len(rows[i].ids) for i in usable], budget):
        places = usable[batch]
        ids, mask = (each.to(loaded.device) for each in padded([rows[i] for i in places]))
        with torch.inference_mode():
            logits, found = read(loaded.model, ids, mask, states=states)
            logs[places] = torch.log_softmax(logits.double(), -1).cpu().numpy()
        if found is not None:
            if pooled is None:
                pooled = np.full((len(rows), found.shape[1]), np.nan)
            pooled[places] = found.double().cpu().numpy()
    reason = np.array([row.reason for row in rows], dtype=object)
    finite = np.isfinite(logs).all(axis=1)
    reason[~finite & (reason == "")] = "nonfinite"
    logs[~finite] = np.nan
    return Predictions(logs, reason, pooled, np.array([row.truncated for row in rows], dtype=bool))


def padded(rows: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """Return (ids, mask) [b, t] int64, padded on the right with id 0, which can be a real token."""
    lengths = np.array([len(row.ids) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, dtype=np.int64)
    ids[mask] = np.concatenate([row.ids for row in rows])
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


def read(
    model: Any, ids: Tensor, mask: Tensor, *, states: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Run a classifier over a padded batch.

    A causal model is read at the last real token by the mask: its own code would look for the
    padding id, which can be a real token.

    Args:
        model: The classifier.
        ids: [b, t].
        mask: [b, t] 1 at real tokens.
        states: Whether to pool states.

    Returns:
        Logits [b, k], and pooled states [b, d] if requested.
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
