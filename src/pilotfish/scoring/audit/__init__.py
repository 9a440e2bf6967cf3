"""How far fast or cheap scores can be trusted near a cut, and how to correct them. Numpy only."""

from pilotfish.scoring.audit import cascade
from pilotfish.scoring.audit.agreement import Agreement, agreement, good_enough, sample, spearman
from pilotfish.scoring.audit.cutoffs import Boundary, Cuts, cuts_of, refusal
from pilotfish.scoring.audit.remeasure import (
    Remeasure,
    Remeasured,
    Rule,
    net_speedup,
    remeasure_near_cuts,
)
from pilotfish.scoring.audit.summary import audit_sentences, cascade_facts, cut_facts, plain_facts

__all__ = [
    "Agreement",
    "Boundary",
    "Cuts",
    "Remeasure",
    "Remeasured",
    "Rule",
    "agreement",
    "audit_sentences",
    "cascade",
    "cascade_facts",
    "cut_facts",
    "cuts_of",
    "good_enough",
    "net_speedup",
    "plain_facts",
    "refusal",
    "remeasure_near_cuts",
    "sample",
    "spearman",
]
