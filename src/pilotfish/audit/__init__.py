"""How far fast or cheap scores may be trusted near a cut, and what puts them right. Numpy only."""

from pilotfish.audit import cascade
from pilotfish.audit.agreement import Agreement, agreement, good_enough, sample, spearman
from pilotfish.audit.blocks import Rule
from pilotfish.audit.cuts import Boundary, Cuts, cuts_of, refusal
from pilotfish.audit.facts import cascade_facts, cut_facts, plain_facts, words
from pilotfish.audit.walk import Remeasure, Walked, net_speedup, walk

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
