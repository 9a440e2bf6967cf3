"""Ways to rank the eligible rows of a pool; a budget then cuts a prefix. Numpy only."""

from pilotfish.pickers.length_matched import LengthMatched
from pilotfish.pickers.middle import Middle
from pilotfish.pickers.protocol import (
    KEPT,
    OVER_BUDGET,
    UNSCORABLE,
    Direction,
    Gate,
    Picker,
    Ranking,
    tie_rank,
)
from pilotfish.pickers.random import Random
from pilotfish.pickers.top import Top

PICKERS: dict[str, type[Picker]] = {
    "length_matched": LengthMatched,
    "middle": Middle,
    "random": Random,
    "top": Top,
}

HELPERS = {"protocol"}

__all__ = [
    "KEPT",
    "OVER_BUDGET",
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
