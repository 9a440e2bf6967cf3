"""One padded batch through the model: logits at the scored tokens only, block by block."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from pilotfish.encode import Encoded
from pilotfish.engine.ways import Way, choose, logits_of, pad_right, states_of
from pilotfish.models import Loaded
from pilotfish.records import Ints
from pilotfish.signals import Signal

_BLOCK_ELEMENTS = 2**24  # logits alive at a time; 64 MiB in fp32, still in reach of caches


class Forward:
    """A loaded model with the leanest way that gives the plain model's numbers."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    @cached_property
    def way(self) -> Way:
        """Found by a probe at first use. Raises UsageError where the model cannot be batched."""
        return choose(self._loaded)

    @cached_property
    def vocabulary(self) -> int:
        """Ids the model has an embedding for; some tokenizers know more."""
        return int(self._loaded.model.get_input_embeddings().num_embeddings)

    def run(self, rows: Sequence[Encoded], where: Ints, reducer: Signal) -> None:
        """Feed `reducer` every target of `rows`; row i is known to it as `where[i]`."""
        model, device, way = self._loaded.model, self._loaded.device, self.way
        lengths = np.array([len(row.ids) for row in rows], dtype=np.int64)
        row, at = np.nonzero(pad_right([each.target for each in rows]))  # row after row, in order
        size = block_size(int(model.config.get_text_config().vocab_size))
        with torch.inference_mode():
            tokens = torch.from_numpy(pad_right([each.ids for each in rows])).to(device)
            states = states_of(model, tokens, lengths, way)
            index = torch.from_numpy(np.stack([row, at])).to(device)
            for begin in range(0, len(row), size):
                here, token = index[:, begin : begin + size]
                # the state one before a token is what predicts it
                logits = logits_of(model, states[here, token - 1], way)
                reducer.block(logits, tokens[here, token], where[row[begin : begin + size]])


def block_size(vocabulary: int) -> int:
    """Tokens whose logits exist at a time, the same for every batch of a model."""
    return int(np.clip(_BLOCK_ELEMENTS // vocabulary, 16, 4096))
