"""Rankers: order the eligible rows of a pool; a budget then keeps a prefix. Numpy only."""

from pilotfish.methods.rankers.base import (
    COPY,
    KEPT,
    OVER_BUDGET,
    OVER_QUOTA,
    UNSCORABLE,
    Direction,
    Gate,
    Ranker,
    Ranking,
    tie_rank,
)
from pilotfish.methods.rankers.length_matched import LengthMatched
from pilotfish.methods.rankers.middle import Middle
from pilotfish.methods.rankers.random import Random
from pilotfish.methods.rankers.top import Top

RANKERS: dict[str, type[Ranker]] = {
    "length_matched": LengthMatched,
    "middle": Middle,
    "random": Random,
    "top": Top,
}

HELPERS = {"base"}

__all__ = [
    "COPY",
    "KEPT",
    "OVER_BUDGET",
    "OVER_QUOTA",
    "RANKERS",
    "UNSCORABLE",
    "Direction",
    "Gate",
    "LengthMatched",
    "Middle",
    "Random",
    "Ranker",
    "Ranking",
    "Top",
    "tie_rank",
]
