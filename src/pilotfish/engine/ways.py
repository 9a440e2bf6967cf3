"""Ways to get logits out of a causal model, and the probe that finds the leanest true one.

The lean way runs the decoder body and applies the output head by itself, to the states that
matter only. Some models do more between body and logits (soft caps, scales), and some may look at
padding; so each shortcut is compared with the plain model before it is trusted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pilotfish.errors import UsageError
from pilotfish.models import Loaded
from pilotfish.records import Ints

# Allowed difference to the plain model, relative, root mean square over logits. The head is probed
# on the very same row, so it has to agree closely; a padded batch takes other kernels, whose
# rounding grows with depth, while a model that sees its padding is off by tens of percent.
_HEAD = {torch.float32: 1e-5}
_BATCH = {torch.float32: 1e-3}
_HEAD_NARROW, _BATCH_NARROW = 1e-2, 0.25


@dataclass(frozen=True, slots=True)
class Way:
    """lean: body and head apart. mask: a padding mask is passed.

    Rows are padded on the right, where a causal model never looks back from a real token: without
    a mask the fast causal attention kernels apply.
    """

    lean: bool
    mask: bool


def pad_right(rows: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """[b, t] with every row at the left edge and zeros behind it."""
    padded = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def states_of(model: Any, tokens: torch.Tensor, lengths: Ints, way: Way) -> torch.Tensor:
    """[b, t, d] after the final norm on the lean way, else [b, t, v] logits."""
    options: dict[str, Any] = {"input_ids": tokens, "use_cache": False}
    if way.mask:
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        known = torch.from_numpy(lengths).to(tokens.device)
        options["attention_mask"] = (steps[None] < known[:, None]).long()
    found = model.base_model(**options)[0] if way.lean else model(**options).logits
    assert isinstance(found, torch.Tensor)
    return found


def logits_of(model: Any, states: torch.Tensor, way: Way) -> torch.Tensor:
    """[..., v] from what `states_of` gave on the same way."""
    found = model.get_output_embeddings()(states) if way.lean else states
    assert isinstance(found, torch.Tensor)
    return found


def choose(loaded: Loaded) -> Way:
    """The leanest way whose logits in a padded batch are those of single rows through the model.

    Raises UsageError where even whole padded batches differ from one row at a time.
    """
    model = loaded.model
    rows = _probe_rows(int(model.config.get_text_config().vocab_size), loaded.window)
    with torch.inference_mode():
        plain = [_probe(model, [row], Way(False, False), loaded.device)[0] for row in rows]
        lean = _splits(model) and _head_is_all(model, rows[0], plain[0])
        for way in (Way(lean, False), Way(lean, True)):
            batch = _probe(model, rows, way, loaded.device)
            allowed = _BATCH.get(loaded.dtype, _BATCH_NARROW)
            pairs = zip(batch, plain, strict=True)
            if all(_close(padded[: len(one)], one, allowed) for padded, one in pairs):
                return way
    raise UsageError(
        f"{loaded.name} gives other numbers in a padded batch than for one row at a time, "
        "so it cannot be measured in batches"
    )


def _probe(
    model: Any, rows: Sequence[NDArray[Any]], way: Way, device: torch.device
) -> torch.Tensor:
    tokens = torch.from_numpy(pad_right(rows)).to(device)
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return logits_of(model, states_of(model, tokens, lengths, way), way)


def _splits(model: Any) -> bool:
    return model.get_output_embeddings() is not None and model.base_model is not model


def _head_is_all(model: Any, row: NDArray[Any], plain: torch.Tensor) -> bool:
    """Whether nothing but the head stands between the body's states and the logits."""
    try:
        [apart] = _probe(model, [row], Way(True, False), plain.device)
    except (TypeError, ValueError, AttributeError):  # a body of another make
        return False
    return _close(apart, plain, _HEAD.get(plain.dtype, _HEAD_NARROW))


def _close(found: torch.Tensor, plain: torch.Tensor, allowed: float) -> bool:
    if found.shape != plain.shape:
        return False
    off = (found.float() - plain.float()).square().mean().sqrt()
    # not <=, so that nan logits (a broken model) pass here and end as `nonfinite` rows
    return not bool(off > allowed * plain.float().square().mean().sqrt())


def _probe_rows(vocabulary: int, window: int | None) -> list[NDArray[np.int64]]:
    """Three rows, the longest first, with ids from all over the vocabulary."""
    longest = min(9, window or 9)
    draw = np.random.default_rng(0).integers(0, vocabulary, size=(3, longest))
    return [draw[i, : max(longest - 3 * i, 1)] for i in range(3)]
