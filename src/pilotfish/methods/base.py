"""What a selector is, and what they share: the formulas, what unscorable means, how to rank."""

from typing import Protocol

import numpy as np

from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Direction, Gate, Middle, Ranker, Top
from pilotfish.methods.rankers.base import OPEN
from pilotfish.records import Floats, Need, RowFeatures, Texts

NONFINITE = "nonfinite"
NO_RESPONSE = "no_response_tokens"


class Selector(Protocol):
    """A published method as a sentence: needs, formula, ranker, citation.

    Final classes are frozen dataclasses; their fields are the paper's knobs with its defaults.
    """

    @property
    def needs(self) -> tuple[Need, ...]:
        """What must be measured; () for a method that looks at no model."""
        ...

    @property
    def direction(self) -> Direction | None:
        """Which end is kept; None where it must be given and was not."""
        ...

    @property
    def reads_counts(self) -> bool:
        """Whether token counts are read (they exist once a run was scored)."""
        ...

    @property
    def pool_relative(self) -> bool:
        """Whether a row's score depends on the other rows; if not, shards are scored one by one."""
        ...

    @property
    def formula(self) -> str:
        """One line for `pilotfish methods`."""
        ...

    @property
    def cite(self) -> str:
        """Paper ids and reference repository."""
        ...

    def score(self, seen: RowFeatures) -> Floats:
        """[n] raw values in the published orientation, nan where unscorable."""
        ...

    def reasons(self, seen: RowFeatures, scores: Floats) -> Texts:
        """[n] "" where scored, else why not."""
        ...

    def ranker(self) -> Ranker:
        """How the scores are ranked; UsageError when a direction is missing."""
        ...


def mean_nll(seen: RowFeatures, need: Need) -> Floats:
    """[n] finite nats per scored token, nan where not measured or not finite.

    An infinite loss must not reach a formula: exp(L_c - inf) is a finite, wrong 0.
    """
    mean = seen[need].mean
    return np.where(np.isfinite(mean), mean, np.nan)


def exp(nats: Floats) -> Floats:
    """[n] nats -> [n] their exponential, nan where that is no finite number."""
    with np.errstate(over="ignore"):
        values = np.exp(nats)
    return np.where(np.isfinite(values), values, np.nan)


def ifd(conditional: Floats, alone: Floats) -> Floats:
    """[n], [n] mean nats per response token -> [n] ratio of perplexities."""
    return exp(conditional - alone)


def measured_reasons(needs: tuple[Need, ...], seen: RowFeatures, scores: Floats) -> Texts:
    """[n] the first need's reason, `nonfinite` for a signal or score that is no number, or ""."""
    reason = np.full(len(seen), "", dtype=object)
    for need in needs:
        why = np.where(np.isfinite(seen[need].mean), seen[need].reason, NONFINITE)
        why = np.where(seen[need].reason != "", seen[need].reason, why)
        reason = np.where(reason == "", why, reason)
    return np.where((reason == "") & ~np.isfinite(scores), NONFINITE, reason)


def ranker_for(direction: Direction | None, gate: Gate = OPEN) -> Ranker:
    """The ranker of a direction: one end, or outwards from the median."""
    if direction is None:
        raise UsageError(
            "which end is to be kept? Published defaults contradict each other, so none is assumed",
            hint="pass --direction high, low or middle (or write method(direction=low))",
        )
    return Middle(gate) if direction == "middle" else Top(direction, gate)
