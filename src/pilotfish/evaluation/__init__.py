"""Metrics, one file each, and evaluated items: their lines, files and imports.

Importing this room loads no torch: metrics import the engine when they run a model.
"""

from pilotfish.evaluation.accuracy import Accuracy
from pilotfish.evaluation.default_metric import default_metric
from pilotfish.evaluation.exact_match import ExactMatch
from pilotfish.evaluation.items import Item, Metric, read_items
from pilotfish.evaluation.loss import Loss
from pilotfish.evaluation.results import EvaluatedRun, evaluate_model, load_evaluated, load_results

METRICS: dict[str, Metric] = {
    "exact_match": ExactMatch(),
    "accuracy": Accuracy(),
    "loss": Loss(),
}

HELPERS = {"default_metric", "import_results", "items", "lm_eval_samples", "results"}

__all__ = [
    "METRICS",
    "EvaluatedRun",
    "Item",
    "Metric",
    "default_metric",
    "evaluate_model",
    "load_evaluated",
    "load_results",
    "read_items",
]
