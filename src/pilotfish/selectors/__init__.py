"""Published methods, one file each: what they need, their formula, how they pick. Numpy only."""

from typing import TYPE_CHECKING, Any

from pilotfish.selectors import making
from pilotfish.selectors.ifd import Ifd
from pilotfish.selectors.longest import Longest
from pilotfish.selectors.making import same_scores
from pilotfish.selectors.perplexity import Perplexity
from pilotfish.selectors.protocol import Selector
from pilotfish.selectors.random import Random
from pilotfish.selectors.superfiltering import Superfiltering

if TYPE_CHECKING:
    from pilotfish.config import Method

SELECTORS: dict[str, type[Selector]] = {
    "ifd": Ifd,
    "longest": Longest,
    "perplexity": Perplexity,
    "random": Random,
    "superfiltering": Superfiltering,
}

HELPERS = {"making", "own", "protocol"}

__all__ = ["SELECTORS", "Selector", "describe", "make", "same_scores"]


def make(method: "Method", direction: str | None = None) -> Selector:
    """The selector of a parsed METHOD, its knobs checked; UsageError (exit 2) where they are wrong.

    A method that needs a direction and got none is made all the same (it can score); its
    `picker()` raises the UsageError.
    """
    return making.build(SELECTORS, method, direction)


def describe(name: str | None = None) -> list[dict[str, Any]]:
    """Name, formula, needs, direction, knobs and citation of every method, or of one."""
    return making.describe(SELECTORS, name)
