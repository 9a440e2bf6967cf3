"""What a stored teacher says at the supervised tokens of a row, and many of them as one teacher."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pilotfish.losses import Dense, Sampled, Teacher, TopK

KINDS: dict[str, type[Dense] | type[TopK] | type[Sampled]] = {
    "topk": TopK,
    "dense": Dense,
    "sampled": Sampled,
}


@dataclass(frozen=True)
class Taught:
    """One row. kind: topk, dense or sampled. arrays: those of the teacher's class, [t, ...] each,
    t the supervised tokens of the row in order."""

    kind: str
    arrays: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


def stack(rows: Sequence[Taught]) -> Teacher:
    """The rows one behind the other as a teacher of all their tokens, [m, ...].

    Ids become int64 and the rest fp32. Rows with fewer columns than the widest (draws) are filled
    up with id 0 at weight 0. ValueError for rows of different kinds.
    """
    if len({row.kind for row in rows}) != 1:
        raise ValueError("stored teachers of one batch are of one kind")
    made = KINDS[rows[0].kind]
    return made(**{one.name: _joined([r.arrays[one.name] for r in rows]) for one in fields(made)})


def _joined(arrays: Sequence[NDArray[Any]]) -> Tensor:
    if arrays[0].ndim == 1:
        joined = np.concatenate(arrays)
    else:
        width = max(each.shape[1] for each in arrays)
        filled = [np.pad(each, ((0, 0), (0, width - each.shape[1]))) for each in arrays]
        joined = np.concatenate(filled)
    wide = np.int64 if np.issubdtype(joined.dtype, np.integer) else np.float32
    return torch.from_numpy(joined.astype(wide))
