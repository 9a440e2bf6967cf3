"""Published methods, one file each: what they need, their formula, how they pick. Numpy only."""

from typing import TYPE_CHECKING, Any

from pilotfish.methods import registry
from pilotfish.methods.base import Selector
from pilotfish.methods.ifd import Ifd
from pilotfish.methods.longest import Longest
from pilotfish.methods.perplexity import Perplexity
from pilotfish.methods.random import Random
from pilotfish.methods.registry import same_scores
from pilotfish.methods.superfiltering import Superfiltering

if TYPE_CHECKING:
    from pilotfish.config import Method

METHODS: dict[str, type[Selector]] = {
    "ifd": Ifd,
    "longest": Longest,
    "perplexity": Perplexity,
    "random": Random,
    "superfiltering": Superfiltering,
}

HELPERS = {"base", "custom", "registry"}

__all__ = ["METHODS", "Selector", "describe", "make", "same_scores"]


def make(method: "Method", direction: str | None = None) -> Selector:
    """The selector of a parsed METHOD, its knobs checked; UsageError (exit 2) where they are wrong.

    A method that needs a direction and got none is made all the same (it can score); its
    `ranker()` raises the UsageError.
    """
    return registry.build(METHODS, method, direction)


def describe(name: str | None = None) -> list[dict[str, Any]]:
    """Name, formula, needs, direction, knobs and citation of every method, or of one."""
    return registry.describe(METHODS, name)
