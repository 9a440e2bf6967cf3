"""Ways to rank the eligible rows of a pool; a budget then cuts a prefix. Numpy only."""

from pilotfish.methods.rankers.base import (
    COPY,
    KEPT,
    OVER_BUDGET,
    OVER_QUOTA,
    UNSCORABLE,
    Direction,
    Gate,
    Picker,
    Ranking,
    tie_rank,
)
from pilotfish.methods.rankers.length_matched import LengthMatched
from pilotfish.methods.rankers.middle import Middle
from pilotfish.methods.rankers.random import Random
from pilotfish.methods.rankers.top import Top

PICKERS: dict[str, type[Picker]] = {
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
    "PICKERS",
    "UNSCORABLE",
    "Direction",
    "Gate",
    "LengthMatched",
    "Middle",
    "Picker",
    "Random",
    "Ranking",
    "Top",
    "tie_rank",
]
