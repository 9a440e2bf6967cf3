"""Intervals, tests and equivalence for arms judged on the same items; numpy only."""

from pilotfish.stats.area import area
from pilotfish.stats.bootstrap import bootstrap
from pilotfish.stats.calibration import confidence_when_wrong, ece, misfit
from pilotfish.stats.choosing import Best, best_of
from pilotfish.stats.efficiency import Efficiency, efficiency
from pilotfish.stats.equivalence import tost
from pilotfish.stats.exact import Paired, holm, mcnemar, paired
from pilotfish.stats.inheritance import Inheritance, inheritance
from pilotfish.stats.interval import Estimate, Parts, contrast, difference, inside, mean
from pilotfish.stats.needed import Needed, needed
from pilotfish.stats.noninferior import NonInferior, noninferior
from pilotfish.stats.pgr import PGR, Pooled, pgr, pooled
from pilotfish.stats.recovery import Recovery, recovery
from pilotfish.stats.seeds import SeedTest, seed_test
from pilotfish.stats.student import t_cdf, t_critical, t_quantile, t_two_sided
from pilotfish.stats.tasks import halves, macro

__all__ = [
    "PGR",
    "Best",
    "Efficiency",
    "Estimate",
    "Inheritance",
    "Needed",
    "NonInferior",
    "Paired",
    "Parts",
    "Pooled",
    "Recovery",
    "SeedTest",
    "area",
    "best_of",
    "bootstrap",
    "confidence_when_wrong",
    "contrast",
    "difference",
    "ece",
    "efficiency",
    "halves",
    "holm",
    "inheritance",
    "inside",
    "macro",
    "mcnemar",
    "mean",
    "misfit",
    "needed",
    "noninferior",
    "paired",
    "pgr",
    "pooled",
    "recovery",
    "seed_test",
    "t_cdf",
    "t_critical",
    "t_quantile",
    "t_two_sided",
    "tost",
]
