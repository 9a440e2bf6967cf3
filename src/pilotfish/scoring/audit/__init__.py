"""How far fast or cheap scores may be trusted near a cut, and what puts them right. Numpy only."""

from pilotfish.scoring.audit import cascade
from pilotfish.scoring.audit.agreement import Agreement, agreement, good_enough, sample, spearman
from pilotfish.scoring.audit.blocks import Rule
from pilotfish.scoring.audit.cutoffs import Boundary, Cuts, cuts_of, refusal
from pilotfish.scoring.audit.remeasure import Remeasure, Walked, net_speedup, walk
from pilotfish.scoring.audit.summary import cascade_facts, cut_facts, plain_facts, words

__all__ = [
    "Agreement",
    "Boundary",
    "Cuts",
    "Remeasure",
    "Rule",
    "Walked",
    "agreement",
    "cascade",
    "cascade_facts",
    "cut_facts",
    "cuts_of",
    "good_enough",
    "net_speedup",
    "plain_facts",
    "refusal",
    "sample",
    "spearman",
    "walk",
    "words",
]
