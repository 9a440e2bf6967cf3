"""What a forward pass can measure, one file each: reducers over blocks of tokens.

A reducer sees a row's tokens in any number of blocks (`hidden`: in one), and of each token only
the facets it asks for, which are gathered over tiles of the vocabulary: full logits never exist.
"""

from typing import Protocol

from pilotfish.engine.signals.dense import Dense
from pilotfish.engine.signals.entropy import Entropy
from pilotfish.engine.signals.hidden import Hidden
from pilotfish.engine.signals.nll import Nll
from pilotfish.engine.signals.sampled import Sampled
from pilotfish.engine.signals.token_nll import TokenNll
from pilotfish.engine.signals.tokens import Column, Columns, Tokens
from pilotfish.engine.signals.top1 import Top1
from pilotfish.engine.signals.topk import TopK
from pilotfish.engine.signals.vocabulary import HEAD_FACETS, Tile, facts


class Signal(Protocol):
    """start once, block as often as it takes, finish once."""

    facets: frozenset[str]

    def __init__(self, size: int = 0) -> None:
        """`size` is a Need's: the k of `topk`, the draws of `sampled`."""

    def start(self, n: int) -> None:
        """Make room for n rows."""

    def block(self, tokens: Tokens) -> None:
        """Take in m tokens of rows in [0, n)."""

    def finish(self) -> Columns:
        """Columns [n], among them `total` and `count`."""


HELPERS = {"tokens", "vocabulary"}
SIGNALS: dict[str, type[Signal]] = {
    "nll": Nll,
    "token_nll": TokenNll,
    "entropy": Entropy,
    "top1": Top1,
    "topk": TopK,
    "hidden": Hidden,
    "dense": Dense,
    "sampled": Sampled,
}

__all__ = [
    "HEAD_FACETS",
    "SIGNALS",
    "Column",
    "Columns",
    "Dense",
    "Entropy",
    "Hidden",
    "Nll",
    "Sampled",
    "Signal",
    "Tile",
    "TokenNll",
    "Tokens",
    "Top1",
    "TopK",
    "facts",
]
