"""What a stored teacher says at the supervised tokens of a row, and many of them as one teacher."""

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
    """One row. kind: topk, dense or sampled. arrays: those of the teacher's class, [t, ...] each,
    t the supervised tokens of the row in order. read: `Encoded.digest` of the ids it was captured
    on, which those of training must equal; None where it is not known."""

    kind: str
    arrays: dict[str, NDArray[Any]]
    read: int | None = None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


def stack(rows: Sequence[TeacherOutputs]) -> Teacher:
    """The rows one behind the other as a teacher of all their tokens, [m, ...].

    Ids become int64 and the rest fp32. Rows with fewer columns than the widest (draws) are filled
    up with id 0 at weight 0. ValueError for rows of different kinds.
    """
    if len({row.kind for row in rows}) != 1:
        raise ValueError("stored teachers of one batch are of one kind")
    made = KINDS[rows[0].kind]
    return made(**{one.name: _joined([r.arrays[one.name] for r in rows]) for one in fields(made)})


def captured_mass(rows: Iterable[TeacherOutputs]) -> float | None:
    """Mean share of the teacher's probability that stands in the stored tokens; None but for topk.

    Exact up to half precision; a mean over supervised tokens, not over rows.
    """
    rests = [row.arrays["rest"].astype(np.float64) for row in rows if row.kind == "topk"]
    return float(1 - np.concatenate(rests).mean()) if rests else None


def check_stored(loss: Loss, text: str, kind: str) -> None:
    """UsageError where a loss cannot learn from a teacher of which this kind is stored.

    Found by trying it on two tokens: what a loss refuses is said by the loss alone.
    """
    if "teacher" not in loss.needs:
        return
    if kind == "sampled" and "surpassed" in loss.needs:
        why = "draws do not say what a token costs the teacher, and until_surpass asks that"
        raise _unserved(text, kind, why)
    try:
        loss(torch.zeros(2, 4), _tried(kind))
    except UsageError as error:
        raise _unserved(text, kind, str(error)) from error


def _unserved(text: str, kind: str, why: str) -> UsageError:
    return UsageError(
        f"the loss '{text}' cannot learn from a stored teacher of kind {kind}: {why}",
        hint="train with --set train.teacher=online, or where the vocabulary is small with "
        "--set train.teacher_kind=dense",
    )


def _tried(kind: str) -> LossInputs:
    ids, half = torch.tensor([[0, 1], [1, 2]]), torch.full((2, 2), 0.5)
    teachers: dict[str, Teacher] = {
        "dense": Dense(torch.zeros(2, 4)),
        "topk": TopK(ids, (half / 2).log(), torch.full((2,), 0.5)),
        "sampled": Sampled(ids, half),
    }
    gold, base = torch.tensor([True, False]), torch.zeros(2, 4)
    return LossInputs(torch.tensor([0, 3]), teachers[kind], base=base, gold=gold)


def _joined(arrays: Sequence[NDArray[Any]]) -> Tensor:
    if arrays[0].ndim == 1:
        joined = np.concatenate(arrays)
    else:
        width = max(each.shape[1] for each in arrays)
        filled = [np.pad(each, ((0, 0), (0, width - each.shape[1]))) for each in arrays]
        joined = np.concatenate(filled)
    wide = np.int64 if np.issubdtype(joined.dtype, np.integer) else np.float32
    return torch.from_numpy(joined.astype(wide))
