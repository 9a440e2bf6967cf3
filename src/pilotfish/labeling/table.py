"""The table of labels: each row's answer, the model's confidence, and whether it is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.records import Floats, Ints, Texts

OK, ABSTAINED, FILTERED, FAILED = STATUSES = ("ok", "abstained", "filtered", "failed")


@dataclass(frozen=True)
class Labels:
    """One entry per row, in the order of the rows.

    Attributes:
        ids: Ids of the rows [n].
        label: The answers [n], also of rows that abstained or were filtered; "" where it failed.
        status: One of STATUSES [n]: `ok` is trained on, `abstained` had too low a confidence,
            `filtered` was dropped by a filter, `failed` has no answer.
        reason: Why the status is not `ok` [n]; "" where it is.
        confidence: In [0, 1] [n], nan where failed or unknown.
        round: 0, or the number of the later pass that added the row back [n].
        fold: Fold of the model that labelled the row [n]; -1 where one model labelled all.
        by: Digest of the model that labelled the row [n]; the last one of a chain.
        classes: The possible answers; () for free answers.
        probs: Probabilities of the classes [n, k]; rows sum to 1, nan where failed.
        consistency: Share of the sampled answers that equal the label [n].
    """

    ids: Texts
    label: Texts
    status: Texts
    reason: Texts
    confidence: Floats
    round: Ints
    fold: Ints
    by: Texts
    classes: tuple[str, ...] = ()
    probs: Floats | None = None
    consistency: Floats | None = None

    def __post_init__(self) -> None:
        for name in _REQUIRED:
            if len(getattr(self, name)) != len(self.ids):
                raise ValueError(f"{len(self.ids)} ids, but {len(getattr(self, name))} of {name}")
        if self.probs is not None and self.probs.shape != (len(self.ids), len(self.classes)):
            raise ValueError(f"probs are {self.probs.shape} for {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Whether each row is trained on [n]."""
        return np.asarray(self.status == OK, dtype=bool)

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows of every status, zeros included."""
        return {status: int(np.sum(self.status == status)) for status in STATUSES}

    def take(self, rows: Sequence[int] | NDArray[Any]) -> "Labels":
        """Return some rows, in the order given."""
        places = np.asarray(rows, dtype=np.int64)
        chosen = {name: values[places] for name, values in self.to_columns().items()}
        return Labels.from_columns(chosen, classes=self.classes)

    def set_aside(self, rows: NDArray[np.bool_], status: str, reason: str | Texts) -> "Labels":
        """Return the labels with the `ok` ones among some rows set aside.

        Args:
            rows: Which rows [n]; those that are not `ok` stay as they are.
            status: Their new status.
            reason: Their reason, one for all or one per row [n].
        """
        changed = rows & self.ok
        new_status, new_reason = self.status.copy(), self.reason.copy()
        new_status[changed] = status
        new_reason[changed] = reason if isinstance(reason, str) else reason[changed]
        return replace(self, status=new_status, reason=new_reason)

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, [n] each, and probs [n, k] where there are any."""
        found = {name: getattr(self, name) for name in (*_REQUIRED, *_OPTIONAL)}
        return {name: values for name, values in found.items() if values is not None}

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, NDArray[Any]], *, classes: Sequence[str] = ()
    ) -> "Labels":
        """Make labels of the arrays that `to_columns` returns; others are ignored."""
        known = {name: columns[name] for name in (*_REQUIRED, *_OPTIONAL) if name in columns}
        return cls(**known, classes=tuple(classes))

    @classmethod
    def joined(cls, parts: Sequence["Labels"]) -> "Labels":
        """Concatenate parts, at least one, all of the same kind."""
        columns = [part.to_columns() for part in parts]
        joined = {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}
        return cls.from_columns(joined, classes=parts[0].classes)


_REQUIRED = ("ids", "label", "status", "reason", "confidence", "round", "fold", "by")
_OPTIONAL = ("probs", "consistency")
