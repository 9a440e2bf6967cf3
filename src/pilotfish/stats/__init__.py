"""Intervals, tests and equivalence for arms judged on the same items; numpy only."""

from pilotfish.stats.bootstrap import bootstrap
from pilotfish.stats.exact import Paired, holm, mcnemar, paired
from pilotfish.stats.interval import Estimate, Parts, difference, inside, mean
from pilotfish.stats.needed import Needed, needed
from pilotfish.stats.student import t_cdf, t_critical, t_quantile, t_two_sided

__all__ = [
    "Estimate",
    "Needed",
    "Paired",
    "Parts",
    "bootstrap",
    "difference",
    "holm",
    "inside",
    "mcnemar",
    "mean",
    "needed",
    "paired",
    "t_cdf",
    "t_critical",
    "t_quantile",
    "t_two_sided",
]
