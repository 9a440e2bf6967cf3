"""The outputs of a stored teacher at the supervised tokens of rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pilotfish.errors import UsageError
from pilotfish.losses import Dense, Loss, LossInputs, Sampled, Teacher, TopK

KINDS: dict[str, type[Dense] | type[TopK] | type[Sampled]] = {
    "topk": TopK,
    "dense": Dense,
    "sampled": Sampled,
}


@dataclass(frozen=True)
class TeacherOutputs:
    """The outputs for one row.

    Attributes:
        kind: topk, dense or sampled.
        arrays: The fields of the teacher's class, [t, ...] each, for the t supervised tokens.
        digest: `Encoded.digest` of the ids the outputs were captured on, which those of training
            must equal; None if unknown.
    """

    kind: str
    arrays: dict[str, NDArray[Any]]
    digest: int | None = None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


def stack(rows: Sequence[TeacherOutputs]) -> Teacher:
    """Concatenate rows into one teacher of all their tokens, [m, ...].

    Ids become int64 and the rest fp32. Rows with fewer columns than the widest (draws) are filled
    up with id 0 at weight 0. Raises ValueError for rows of different kinds.
    """
    if len({row.kind for row in rows}) != 1:
        raise ValueError("stored teachers of one batch are of one kind")
    kind = KINDS[rows[0].kind]
    return kind(**{one.name: _join([row.arrays[one.name] for row in rows]) for one in fields(kind)})


def _join(arrays: Sequence[NDArray[Any]]) -> Tensor:
    if arrays[0].ndim == 2:
        width = max(each.shape[1] for each in arrays)
        arrays = [np.pad(each, ((0, 0), (0, width - each.shape[1]))) for each in arrays]
    joined = np.concatenate(arrays)
    wide = np.int64 if np.issubdtype(joined.dtype, np.integer) else np.float32
    return torch.from_numpy(joined.astype(wide))


def captured_mass(rows: Iterable[TeacherOutputs]) -> float | None:
    """Return the mean probability of the stored tokens, over supervised tokens; None but for topk.

    Exact up to half precision.
    """
    rests = [row.arrays["rest"].astype(np.float64) for row in rows if row.kind == "topk"]
    return float(1 - np.concatenate(rests).mean()) if rests else None


def check_stored(loss: Loss, text: str, kind: str) -> None:
    """Raise UsageError where a loss cannot learn from a stored teacher of a kind.

    The loss is tried on two tokens, so that each loss alone decides what it accepts.

    Args:
        loss: The loss.
        text: How the user wrote it.
        kind: topk, dense or sampled.
    """
    if "teacher" not in loss.needs:
        return
    ids, half = torch.tensor([[0, 1], [1, 2]]), torch.full((2, 2), 0.5)
    teachers: dict[str, Teacher] = {
        "dense": Dense(torch.zeros(2, 4)),
        "topk": TopK(ids, (half / 2).log(), torch.full((2,), 0.5)),
        "sampled": Sampled(ids, half),
    }
    trial = LossInputs(
        torch.tensor([0, 3]),
        teachers[kind],
        base=torch.zeros(2, 4),
        trusted=torch.tensor([True, False]),
    )
    try:
        if kind == "sampled" and "surpassed" in loss.needs:
            raise UsageError(
                "until_surpass needs the teacher's loss on each token, which draws do not give"
            )
        loss(torch.zeros(2, 4), trial)
    except UsageError as error:
        raise UsageError(
            f"the loss '{text}' cannot learn from a stored teacher of kind {kind}: {error}",
            hint="train with --set train.teacher=online, or where the vocabulary is small with "
            "--set train.teacher_kind=dense",
        ) from error
