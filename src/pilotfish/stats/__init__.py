"""Intervals, tests and equivalence for arms judged on the same items, in numpy.

Distribution functions come from scipy.special, loaded at their first use.
"""

from pilotfish.stats.area import area
from pilotfish.stats.best_of import Best, best_of
from pilotfish.stats.bootstrap import bootstrap
from pilotfish.stats.calibration import confidence_when_wrong, ece, misfit
from pilotfish.stats.distributions import t_cdf, t_critical, t_quantile, t_two_sided
from pilotfish.stats.efficiency import Efficiency, efficiency
from pilotfish.stats.error_inheritance import Inheritance, inheritance
from pilotfish.stats.interval import Estimate, Parts, contrast, difference, inside, mean
from pilotfish.stats.noninferior import NonInferior, noninferior, tost
from pilotfish.stats.paired_tests import Paired, holm, mcnemar, paired
from pilotfish.stats.pgr import PGR, Pooled, pgr, pooled
from pilotfish.stats.power import Needed, needed
from pilotfish.stats.recovery import Recovery, recovery
from pilotfish.stats.seeds import SeedTest, seed_test
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
