"""One padded batch through the model: logits at the scored tokens only, block by block.

The lean way runs the decoder body, gathers the hidden states that predict a target, and applies
the output head to blocks of them. Some models do more between body and logits (soft caps, scales),
so a probe compares each way with the plain model before it is trusted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from pilotfish.encode import Encoded
from pilotfish.errors import UsageError
from pilotfish.models import Loaded
from pilotfish.records import Ints
from pilotfish.signals import Signal

# Largest relative difference to the plain model's logits at which a way counts as the same.
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
_BLOCK_ELEMENTS = 2**24  # logits alive at a time; 64 MiB in fp32, still in reach of caches


@dataclass(frozen=True, slots=True)
class Way:
    """How to get logits: through body and head apart or whole, with or without a padding mask.

    Rows are padded on the right, where a causal model never looks back from a real token: without
    a mask the fast causal attention kernels apply.
    """

    lean: bool
    mask: bool


WAYS = (Way(True, False), Way(True, True), Way(False, False), Way(False, True))


class Forward:
    """A loaded model with the leanest way that gives the plain model's numbers."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    @cached_property
    def way(self) -> Way:
        """Found by a probe at first use.

        Raises UsageError where even whole padded batches differ from one row at a time.
        """
        return _choose(self._loaded)

    def run(self, rows: Sequence[Encoded], where: Ints, reducer: Signal) -> None:
        """Feed `reducer` every target of `rows`; row i is known to it as `where[i]`."""
        model, device, way = self._loaded.model, self._loaded.device, self.way
        ids = pad_right([row.ids for row in rows])
        target = pad_right([row.target for row in rows]).astype(bool)
        row, at = np.nonzero(target)  # row after row, tokens in order
        with torch.inference_mode():
            tokens = torch.from_numpy(ids).to(device)
            lengths = np.array([len(each.ids) for each in rows])
            states = _states(model, tokens, lengths, way)
            index = torch.from_numpy(np.stack([row, at])).to(device)
            predicting = states[index[0], index[1] - 1]  # [m, d], or [m, v] on the whole way
            wanted = tokens[index[0], index[1]]
            del states
            size = _block_size(model.config)
            for begin in range(0, len(row), size):
                part = slice(begin, begin + size)
                logits = _logits(model, predicting[part], way)
                reducer.block(logits, wanted[part], where[row[part]])


def pad_right(rows: Sequence[np.ndarray[Any, Any]], *, fill: int = 0) -> np.ndarray[Any, Any]:
    """[b, t] int64 with every row at the left edge."""
    padded = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def _states(model: Any, tokens: torch.Tensor, lengths: Ints, way: Way) -> torch.Tensor:
    """[b, t, d] after the final norm on the lean way, else [b, t, v] logits."""
    options: dict[str, Any] = {"input_ids": tokens, "use_cache": False}
    if way.mask:
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        known = torch.from_numpy(lengths).to(tokens.device)
        options["attention_mask"] = (steps[None] < known[:, None]).long()
    if not way.lean:
        return _tensor(model(**options).logits)
    return _tensor(model.base_model(**options)[0])


def _logits(model: Any, states: torch.Tensor, way: Way) -> torch.Tensor:
    return _tensor(model.get_output_embeddings()(states)) if way.lean else states


def _choose(loaded: Loaded) -> Way:
    """The first way whose logits, in a padded batch, are those of single rows through the model."""
    model = loaded.model
    rows = _probe_rows(int(model.config.get_text_config().vocab_size), loaded.window)
    with torch.inference_mode():
        plain = [
            _tensor(model(input_ids=torch.from_numpy(row[None]).to(loaded.device)).logits)[0]
            for row in rows
        ]
        for way in WAYS:
            if way.lean and not _splits(model):
                continue
            if _same(model, rows, plain, way):
                return way
    raise UsageError(
        f"{loaded.name} gives other numbers in a padded batch than for one row at a time, "
        "so it cannot be measured in batches"
    )


def _splits(model: Any) -> bool:
    return model.get_output_embeddings() is not None and model.base_model is not model


def _same(
    model: Any, rows: Sequence[np.ndarray[Any, Any]], plain: Sequence[torch.Tensor], way: Way
) -> bool:
    tokens = torch.from_numpy(pad_right(rows)).to(plain[0].device)
    lengths = np.array([len(row) for row in rows])
    try:
        batch = _logits(model, _states(model, tokens, lengths, way), way)
    except (TypeError, ValueError, RuntimeError):  # this way does not exist for the model
        return False
    allowed = _TOLERANCE.get(plain[0].dtype, 1e-2)
    for alone, together in zip(plain, batch, strict=True):
        if together[: len(alone)].shape != alone.shape:
            return False
        worst = (together[: len(alone)].float() - alone.float()).abs().max()
        # not <=, so that nan logits (a broken model) still pass and end as `nonfinite` rows
        if worst > allowed * alone.float().abs().max().clamp_min(1e-6):
            return False
    return True


def _probe_rows(vocabulary: int, window: int | None) -> list[np.ndarray[Any, Any]]:
    """Three rows of different length with ids from all over the vocabulary."""
    longest = min(9, window or 9)
    draw = np.random.default_rng(0).integers(0, vocabulary, size=(3, longest))
    return [draw[i, : max(longest - 3 * i, 1)] for i in range(3)]


def _block_size(config: Any) -> int:
    """Tokens whose logits exist at a time, the same for every batch of a model."""
    return int(np.clip(_BLOCK_ELEMENTS // int(config.get_text_config().vocab_size), 16, 4096))


def _tensor(value: Any) -> torch.Tensor:
    assert isinstance(value, torch.Tensor)
    return value
