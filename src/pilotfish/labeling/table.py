"""Labels: what a model answered to every row, how sure it was, and what became of the answer."""

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

    label: the answer, also of rows that abstained or were filtered (they say what was set aside);
    "" where it failed. status: `ok` is learnt from, `abstained` was not sure enough, `filtered` was
    dropped by a filter, `failed` has no answer; reason says why, "" where ok.
    confidence: in [0, 1], nan where failed or unknown. classes: (), or the answers there are, and
    probs the probability of each, rows summing to 1 and nan where failed.
    consistency: share of sampled answers equal to the label. round: 0, or the later pass that let
    a row in. fold: of the model that labelled the row, -1 where one model labelled all.
    by: digest of the model that labelled the row; a chain names its last one.
    """

    ids: Texts  # [n]
    label: Texts  # [n]
    status: Texts  # [n] one of STATUSES
    reason: Texts  # [n]
    confidence: Floats  # [n]
    round: Ints  # [n]
    fold: Ints  # [n]
    by: Texts  # [n]
    classes: tuple[str, ...] = ()
    probs: Floats | None = None  # [n, k]
    consistency: Floats | None = None  # [n]

    def __post_init__(self) -> None:
        for name in _COLUMNS:
            if len(getattr(self, name)) != len(self.ids):
                raise ValueError(f"{len(self.ids)} ids, but {len(getattr(self, name))} of {name}")
        if self.probs is not None and self.probs.shape != (len(self.ids), len(self.classes)):
            raise ValueError(f"probs are {self.probs.shape} for {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def ok(self) -> NDArray[np.bool_]:
        """[n] which rows are learnt from."""
        return np.asarray(self.status == OK, dtype=bool)

    @property
    def counts(self) -> dict[str, int]:
        """Rows of every status, all of them named."""
        return {status: int(np.sum(self.status == status)) for status in STATUSES}

    def take(self, rows: Sequence[int] | NDArray[Any]) -> "Labels":
        """Some rows, in the order given."""
        places = np.asarray(rows, dtype=np.int64)
        chosen = {name: values[places] for name, values in self._arrays().items()}
        return Labels.from_columns(chosen, classes=self.classes)

    def set_aside(self, rows: NDArray[np.bool_], status: str, reason: str | Texts) -> "Labels":
        """The same with the `ok` rows among `rows` [n] set aside; others keep what they say."""
        changed = rows & self.ok
        status_, reason_ = self.status.copy(), self.reason.copy()
        status_[changed] = status
        reason_[changed] = reason if isinstance(reason, str) else reason[changed]
        return replace(self, status=status_, reason=reason_)

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Arrays by name, [n] each and probs [n, k] where there are any."""
        return self._arrays()

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, NDArray[Any]], *, classes: Sequence[str] = ()
    ) -> "Labels":
        """The other way round."""
        known = {name: columns[name] for name in (*_COLUMNS, *_MORE) if name in columns}
        return cls(**known, classes=tuple(classes))

    @classmethod
    def joined(cls, parts: Sequence["Labels"]) -> "Labels":
        """Parts that follow one another, at least one, all of the same kind."""
        columns = [part.to_columns() for part in parts]
        together = {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}
        return cls.from_columns(together, classes=parts[0].classes)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        found = {name: getattr(self, name) for name in (*_COLUMNS, *_MORE)}
        return {name: values for name, values in found.items() if values is not None}


_COLUMNS = ("ids", "label", "status", "reason", "confidence", "round", "fold", "by")
_MORE = ("probs", "consistency")
