"""The interface of a method, and what methods share: formulas, unscorable rows, ranking."""

from typing import Protocol

import numpy as np

from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Direction, Gate, Middle, Ranker, Top
from pilotfish.methods.rankers.base import OPEN
from pilotfish.records import Floats, Need, RowFeatures, Texts

NONFINITE = "nonfinite"
NO_RESPONSE = "no_response_tokens"


class Selector(Protocol):
    """A published method: the features it needs, its formula, its ranker and its citation.

    The classes are frozen dataclasses; their fields are the paper's parameters and defaults.
    """

    @property
    def needs(self) -> tuple[Need, ...]:
        """The features to measure; () for a method that needs no model."""
        ...

    @property
    def direction(self) -> Direction | None:
        """Which end is kept; None if it must be given and was not."""
        ...

    @property
    def reads_counts(self) -> bool:
        """Whether the formula reads token counts, which scoring a run provides."""
        ...

    @property
    def pool_relative(self) -> bool:
        """Whether a row's score depends on other rows; if not, shards are scored one by one."""
        ...

    @property
    def formula(self) -> str:
        """The formula in one line, for `pilotfish methods`."""
        ...

    @property
    def cite(self) -> str:
        """Paper ids and reference repository."""
        ...

    def score(self, seen: RowFeatures) -> Floats:
        """Return [n] raw values in the published orientation, nan where unscorable."""
        ...

    def reasons(self, seen: RowFeatures, scores: Floats) -> Texts:
        """Return [n] the reason why a row has no score, "" where scored."""
        ...

    def ranker(self) -> Ranker:
        """Return how the scores are ranked. Raises UsageError if a direction is missing."""
        ...


def mean_nll(seen: RowFeatures, need: Need) -> Floats:
    """Return [n] the mean NLL in nats per scored token, nan where not measured or not finite.

    An infinite loss must not reach a formula: exp(L_c - inf) is 0, which is finite and wrong.
    """
    mean = seen[need].mean
    return np.where(np.isfinite(mean), mean, np.nan)


def exp(nats: Floats) -> Floats:
    """Return [n] the exponential of [n] nats, nan where it is not finite."""
    with np.errstate(over="ignore"):
        values = np.exp(nats)
    return np.where(np.isfinite(values), values, np.nan)


def ifd(conditional: Floats, alone: Floats) -> Floats:
    """Return [n] the ratio of perplexities.

    Args:
        conditional: [n] mean NLL of the response given the prompt, in nats per token.
        alone: [n] mean NLL of the response without the prompt, in nats per token.
    """
    return exp(conditional - alone)


def measured_reasons(needs: tuple[Need, ...], seen: RowFeatures, scores: Floats) -> Texts:
    """Return [n] why a row has no score, "" where it has one.

    Args:
        needs: The features that the formula reads; the first reason found is returned.
        seen: The features of the rows.
        scores: [n] scores. A feature or a score that is not finite has the reason `nonfinite`.
    """
    reason = np.full(len(seen), "", dtype=object)
    for need in needs:
        why = np.where(np.isfinite(seen[need].mean), seen[need].reason, NONFINITE)
        why = np.where(seen[need].reason != "", seen[need].reason, why)
        reason = np.where(reason == "", why, reason)
    return np.where((reason == "") & ~np.isfinite(scores), NONFINITE, reason)


def ranker_for(direction: Direction | None, gate: Gate = OPEN) -> Ranker:
    """Return the ranker of a direction: one end, or the middle, outwards from the median.

    Args:
        direction: Which rows to keep.
        gate: Which scores are eligible.

    Raises:
        UsageError: There is no direction.
    """
    if direction is None:
        raise UsageError(
            "which end to keep is not given; published defaults contradict each other, so none is "
            "assumed",
            hint="pass --direction high, low or middle (or write method(direction=low))",
        )
    return Middle(gate) if direction == "middle" else Top(direction, gate)
