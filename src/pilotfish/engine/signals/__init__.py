"""Signals a forward pass can measure, one file each: streaming reducers over blocks of tokens.

A reducer sees a row's tokens in any number of blocks (`hidden`: in one). It lists the facets it
reads of each token; they are gathered over tiles of the vocabulary, so full logits never exist.
"""

from typing import Protocol

from pilotfish.engine.signals.dense import Dense
from pilotfish.engine.signals.entropy import Entropy
from pilotfish.engine.signals.hidden import Hidden
from pilotfish.engine.signals.nll import Nll
from pilotfish.engine.signals.sampled import Sampled
from pilotfish.engine.signals.token_nll import TokenNll
from pilotfish.engine.signals.tokens import Columns, Tokens
from pilotfish.engine.signals.top1 import Top1
from pilotfish.engine.signals.topk import TopK


class Signal(Protocol):
    """A reducer: `start` is called once, `block` any number of times, `finish` once."""

    facets: frozenset[str]

    def __init__(self, size: int = 0) -> None:
        """Take the size of a Need: the k of `topk`, the number of draws of `sampled`."""

    def start(self, n: int) -> None:
        """Allocate n rows."""

    def block(self, tokens: Tokens) -> None:
        """Add m tokens of rows in [0, n)."""

    def finish(self) -> Columns:
        """Return columns [n]; `total` and `count` are always among them."""


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
