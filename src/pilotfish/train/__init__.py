"""The strong stage: rows and a model in, a trained standard model folder out."""

from pilotfish.train.checkpoint import Checkpoints
from pilotfish.train.order import plan_steps, rows_per_step
from pilotfish.train.setup import default_learning_rate, unlike_tokenizers
from pilotfish.train.strong import train
from pilotfish.train.tune import pick_learning_rate, tune

__all__ = [
    "Checkpoints",
    "default_learning_rate",
    "pick_learning_rate",
    "plan_steps",
    "rows_per_step",
    "train",
    "tune",
    "unlike_tokenizers",
]
