"""One file per judgement, and the verdict that turns judged items into intervals and sentences.

Importing this room loads no torch: metrics fetch the engine when they are asked to judge.
"""

from pilotfish.judge.accuracy import Accuracy
from pilotfish.judge.arms import arms
from pilotfish.judge.choice import default_metric
from pilotfish.judge.comparisons import comparisons
from pilotfish.judge.exact_match import ExactMatch
from pilotfish.judge.files import Judged, judge_model, load_judged, load_results
from pilotfish.judge.items import Item, Metric, read_items
from pilotfish.judge.loss import Loss
from pilotfish.judge.verdict import Verdict, decide

METRICS: dict[str, Metric] = {
    "exact_match": ExactMatch(),
    "accuracy": Accuracy(),
    "loss": Loss(),
}

HELPERS = (
    "arms",
    "break_even",
    "case",
    "choice",
    "chosen",
    "comparisons",
    "contrast",
    "curve",
    "equal",
    "files",
    "gates",
    "harness_samples",
    "imported",
    "items",
    "places",
    "recommend",
    "seed_pairs",
    "tasks",
    "verdict",
    "words",
)

__all__ = [
    "METRICS",
    "Item",
    "Judged",
    "Metric",
    "Verdict",
    "arms",
    "comparisons",
    "decide",
    "default_metric",
    "judge_model",
    "load_judged",
    "load_results",
    "read_items",
]
