"""What a filter of weak labels may look at, what it answers, and the rules all filters share."""

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
    """Weakly labelled rows, and a small gold set where there is one.

    labels: n rows, of which only the `ok` ones are ever kept. states [n, d]: hidden states of the
    weak model, nan where not measured.
    gold_labels, gold_states [g, d], gold_right [g]: the weak model's labels of the gold rows
    (made without training on them), its states there, and whether each label was right.
    """

    labels: Labels
    states: Floats | None = None
    gold_labels: Labels | None = None
    gold_states: Floats | None = None
    gold_right: Bools | None = None

    def __len__(self) -> int:
        return len(self.labels)


class Kept(NamedTuple):
    """A filter's answer: kept [n]; score [n], higher is better, nan where there is none; and for
    every row that is not kept, why: reason [n], "" where kept."""

    kept: Bools
    score: Floats
    reason: Texts


class Filter(Protocol):
    """Which weak labels to trust. Final classes are frozen dataclasses; their fields are knobs."""

    @property
    def formula(self) -> str:
        """One line in words."""
        ...

    @property
    def cite(self) -> str:
        """Paper ids."""
        ...

    def sift(self, seen: Candidates) -> Kept:
        """The rows kept; UsageError where what it needs was not measured."""
        ...

    def facts(self, seen: Candidates) -> dict[str, Any]:
        """What a manifest should say of this filter on these rows; {} where nothing."""
        ...


def ties(ids: Texts) -> Ints:
    """[n] a rank of the rows by a hash of their id: settles ties whatever the order of the rows."""
    marks = [hashlib.blake2b(str(each).encode(), digest_size=16).digest() for each in ids]
    rank = np.empty(len(marks), dtype=np.int64)
    rank[sorted(range(len(marks)), key=lambda i: (marks[i], str(ids[i])))] = np.arange(len(marks))
    return rank


def count_of(share: float, n: int) -> int:
    """How many of n rows a share is: rounded, halves up, whatever the float's last digit."""
    return math.floor(share * n + 0.5 + 1e-9)


def check_share(name: str, share: float) -> None:
    """UsageError unless the share of rows to keep lies in (0, 1]."""
    if not 0.0 < share <= 1.0:
        raise UsageError(
            f"{name}: keep={share:g} is no share of rows", hint=f"write {name}(keep=0.8)"
        )


def check_knobs(name: str, keep: float | None, above: float | None) -> None:
    """UsageError where both ways to cut are given, or a value is out of range."""
    if keep is not None and above is not None:
        raise UsageError(
            f"{name}: keep={keep:g} and above={above:g} contradict each other",
            hint=f"write {name}(keep=0.8) or {name}(above=0.9)",
        )
    if keep is not None:
        check_share(name, keep)
    if above is not None and not math.isfinite(above):
        raise UsageError(f"{name}: above={above} is no number")


def keep_above(seen: Candidates, score: Floats, why: Texts, least: float) -> Kept:
    """Rows whose score is at least `least`; `why` [n] tells of rows without a score."""
    score, reason = _unscored(seen, score, why)
    low = np.isfinite(score) & (score < least)
    reason = np.where(low, f"below {least:g}", reason).astype(object)
    return Kept(reason == "", score, reason)


def keep_share(
    seen: Candidates, score: Floats, why: Texts, share: float, *, per_class: bool = False
) -> Kept:
    """The best `share` of the labelled rows by score, ties by id; all scored rows where fewer.

    The budget counts every labelled row, so that rows without a score do not shrink it.
    `per_class` spends it within each weak label, so that no class is filtered away.
    """
    score, reason = _unscored(seen, score, why)
    groups = seen.labels.label if per_class else np.full(len(seen), "", dtype=object)
    order = np.lexsort((ties(seen.labels.ids), -np.where(np.isfinite(score), score, -np.inf)))
    kept = np.zeros(len(seen), dtype=bool)
    for group in sorted({str(each) for each in groups[seen.labels.ok]}):
        inside = seen.labels.ok & np.array([str(each) == group for each in groups], dtype=bool)
        usable = order[(inside & np.isfinite(score))[order]]
        kept[usable[: count_of(share, int(inside.sum()))]] = True
    reason = np.where((reason == "") & ~kept, NOT_KEPT, reason).astype(object)
    return Kept(kept, score, reason)


def _unscored(seen: Candidates, score: Floats, why: Texts) -> tuple[Floats, Texts]:
    """Scores of labelled rows only, and the reason of every row that has none."""
    score = np.where(seen.labels.ok & np.isfinite(score), score, np.nan)
    lost = np.where(why == "", "no finite score", why)
    reason = np.where(np.isfinite(score), "", lost)
    return score, np.where(seen.labels.ok, reason, _states_of(seen)).astype(object)


def _states_of(seen: Candidates) -> Texts:
    return np.array([f"not labelled: {status}" for status in seen.labels.status], dtype=object)
