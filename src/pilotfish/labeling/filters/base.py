"""The interface of a filter of weak labels, and the rules that all filters share."""

import hashlib
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError
from pilotfish.labeling.table import Labels
from pilotfish.records import Floats, Ints, Texts

Bools = NDArray[np.bool_]

NOT_KEPT = "not in the share that is kept"


@dataclass(frozen=True)
class Candidates:
    """Weakly labelled rows, and trusted rows that the same model labelled.

    Attributes:
        labels: Labels of the rows [n]; only `ok` ones are ever kept.
        states: Hidden states of the weak model [n, d], nan where not measured.
        trusted_labels: The weak model's labels of trusted rows [g] that it was not tuned on.
        trusted_states: Its hidden states there [g, d].
        trusted_correct: Whether each of these labels is right [g].
    """

    labels: Labels
    states: Floats | None = None
    trusted_labels: Labels | None = None
    trusted_states: Floats | None = None
    trusted_correct: Bools | None = None

    def __len__(self) -> int:
        return len(self.labels)


class FilterResult(NamedTuple):
    """A filter's decision for every row.

    Attributes:
        kept: Whether the row is kept [n].
        score: Higher is better [n], nan where there is none.
        reason: Why the row is not kept [n]; "" where it is.
    """

    kept: Bools
    score: Floats
    reason: Texts


class Filter(Protocol):
    """Decides which weak labels to keep. Classes are frozen dataclasses; fields are settings."""

    @property
    def formula(self) -> str:
        """The score, on one line."""
        ...

    @property
    def cite(self) -> str:
        """Paper ids."""
        ...

    def apply(self, candidates: Candidates) -> FilterResult:
        """Decide on every row. Raises UsageError where the filter lacks something it needs."""
        ...

    def facts(self, candidates: Candidates) -> dict[str, Any]:
        """Return what the manifest records about the filter on these rows; {} for nothing."""
        ...


def ties(ids: Texts) -> Ints:
    """Rank rows [n] by a hash of their id: breaks ties whatever the order of the rows."""
    marks = [hashlib.blake2b(str(each).encode(), digest_size=16).digest() for each in ids]
    rank = np.empty(len(marks), dtype=np.int64)
    rank[sorted(range(len(marks)), key=lambda i: (marks[i], str(ids[i])))] = np.arange(len(marks))
    return rank


def count_of(share: float, n: int) -> int:
    """Return a share of n rows as a count: rounded, halves up, whatever the float's last digit."""
    return math.floor(share * n + 0.5 + 1e-9)


def check_share(name: str, share: float) -> None:
    """Raise UsageError unless the share of rows to keep lies in (0, 1]."""
    if not 0.0 < share <= 1.0:
        raise UsageError(
            f"{name}: keep={share:g} is no share of rows", hint=f"write {name}(keep=0.8)"
        )


def check_cut(name: str, keep: float | None, above: float | None) -> None:
    """Raise UsageError where both a share and a threshold are given, or one is out of range."""
    if keep is not None and above is not None:
        raise UsageError(
            f"{name}: keep={keep:g} and above={above:g} contradict each other",
            hint=f"write {name}(keep=0.8) or {name}(above=0.9)",
        )
    if keep is not None:
        check_share(name, keep)
    if above is not None and not math.isfinite(above):
        raise UsageError(f"{name}: above={above} is no number")


def keep_above(candidates: Candidates, score: Floats, why: Texts, threshold: float) -> FilterResult:
    """Keep rows with a score of at least a threshold.

    Args:
        candidates: The rows.
        score: Their scores [n], higher is better.
        why: The reason of rows without a score [n].
        threshold: The lowest score to keep.
    """
    score, reason = _unscored(candidates, score, why)
    low = np.isfinite(score) & (score < threshold)
    reason = np.where(low, f"below {threshold:g}", reason).astype(object)
    return FilterResult(reason == "", score, reason)


def keep_share(
    candidates: Candidates, score: Floats, why: Texts, share: float, *, per_class: bool = False
) -> FilterResult:
    """Keep a share of the labelled rows by score, ties by id; all scored rows where fewer.

    The budget counts every labelled row, so rows without a score do not shrink it.

    Args:
        candidates: The rows.
        score: Their scores [n], higher is better.
        why: The reason of rows without a score [n].
        share: The share to keep, in (0, 1].
        per_class: Spend the share within each weak label, so that no class is filtered away.
    """
    labels = candidates.labels
    score, reason = _unscored(candidates, score, why)
    groups = labels.label if per_class else np.full(len(labels), "", dtype=object)
    order = np.lexsort((ties(labels.ids), -np.where(np.isfinite(score), score, -np.inf)))
    kept = np.zeros(len(labels), dtype=bool)
    for group in sorted({str(each) for each in groups[labels.ok]}):
        inside = labels.ok & np.array([str(each) == group for each in groups], dtype=bool)
        usable = order[(inside & np.isfinite(score))[order]]
        kept[usable[: count_of(share, int(inside.sum()))]] = True
    reason = np.where((reason == "") & ~kept, NOT_KEPT, reason).astype(object)
    return FilterResult(kept, score, reason)


def _unscored(candidates: Candidates, score: Floats, why: Texts) -> tuple[Floats, Texts]:
    """Return scores of labelled rows only, and the reason of every row that has none."""
    labels = candidates.labels
    score = np.where(labels.ok & np.isfinite(score), score, np.nan)
    missing = np.where(why == "", "no finite score", why)
    reason = np.where(np.isfinite(score), "", missing)
    not_ok = np.array([f"not labelled: {status}" for status in labels.status], dtype=object)
    return score, np.where(labels.ok, reason, not_ok).astype(object)
