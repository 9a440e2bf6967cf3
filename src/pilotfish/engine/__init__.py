"""Runs models over rows: batch plan, forward, shard scorer, greedy answers."""

from pilotfish.engine.answers import choice_nll, choices, response_nll
from pilotfish.engine.batches import default_budget
from pilotfish.engine.classify import Predictions, classify
from pilotfish.engine.generate import Answers, answer, generate
from pilotfish.engine.keys import stage_key
from pilotfish.engine.look import Looker, prompt_states
from pilotfish.engine.memory import find_budget
from pilotfish.engine.plan import plan
from pilotfish.engine.sample import sample
from pilotfish.engine.scorer import LENGTHS, Receipt, ShardScorer, measure
from pilotfish.engine.seen import load_part, load_seen, seen_of

__all__ = [
    "LENGTHS",
    "Answers",
    "Looker",
    "Predictions",
    "Receipt",
    "ShardScorer",
    "answer",
    "choice_nll",
    "choices",
    "classify",
    "default_budget",
    "find_budget",
    "generate",
    "load_part",
    "load_seen",
    "measure",
    "plan",
    "prompt_states",
    "response_nll",
    "sample",
    "seen_of",
    "stage_key",
]
