"""Pad rows of token ids into tensors; the shift by one token is made here and nowhere else."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pilotfish.losses import LossInputs
from pilotfish.tokenization import Encoded


@dataclass(frozen=True)
class Batch:
    """A padded micro-batch of b rows and t positions, with its m supervised tokens."""

    ids: Tensor  # [b, t] int64, padded on the right with id 0, a real token for many tokenizers
    mask: Tensor | None  # [b, t] int64, 1 where a token is real; None where nothing is padded
    source: Tensor  # [m] int64, flat position in [b * t] *before* each supervised token
    inputs: LossInputs  # of the m supervised tokens
    weights: Tensor | None = None  # [m] of the supervised tokens; None: 1

    @property
    def targets(self) -> Tensor:
        """[m] int64, the supervised tokens."""
        assert self.inputs.targets is not None
        return self.inputs.targets

    def to(self, device: torch.device) -> "Batch":
        """Copy the batch to a device."""
        return Batch(
            self.ids.to(device),
            None if self.mask is None else self.mask.to(device),
            self.source.to(device),
            self.inputs.to(device),
            None if self.weights is None else self.weights.to(device),
        )


def supervised(row: Encoded) -> int:
    """Count the tokens of a row that are learnt; the first has nothing before it to predict it."""
    return int(np.count_nonzero(row.target[1:]))


def collate(rows: Sequence[Encoded]) -> Batch:
    """Pad rows on the right. Logits at t predict the token at t + 1, so `source` is one back.

    With causal attention, real tokens do not see the padding behind them.
    """
    lengths = [len(row.ids) for row in rows]
    width = max(lengths)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    source, targets = [], []
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = row.ids
        before = np.flatnonzero(row.target[1:])
        source.append(place * width + before)
        targets.append(row.ids[before + 1])
    mask = None
    if min(lengths) < width:
        mask = torch.from_numpy((np.arange(width) < np.array(lengths)[:, None]).astype(np.int64))
    return Batch(
        ids=torch.from_numpy(ids),
        mask=mask,
        source=torch.from_numpy(np.concatenate(source).astype(np.int64)),
        inputs=LossInputs(torch.from_numpy(np.concatenate(targets).astype(np.int64))),
    )
