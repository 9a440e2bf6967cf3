"""Ways to rank the eligible rows of a pool; a budget then cuts a prefix. Numpy only."""

from pilotfish.pickers.length_matched import LengthMatched
from pilotfish.pickers.middle import Middle
from pilotfish.pickers.protocol import (
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
