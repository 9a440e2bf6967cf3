"""The strong stage: rows and a model in, a trained standard model folder out."""

from pilotfish.order import plan_steps, row_name, rows_per_step
from pilotfish.train.checkpoint import Checkpoints
from pilotfish.train.classify import train_classifier
from pilotfish.train.focus import make_focus, unlike_reference
from pilotfish.train.looks import Looks
from pilotfish.train.setup import (
    check_reach,
    default_learning_rate,
    learns_lora,
    unlike_tokenizers,
)
from pilotfish.train.strong import train
from pilotfish.train.taught import Taught, check_stored
from pilotfish.train.tune import pick_learning_rate, tune
from pilotfish.train.validation import Validation
from pilotfish.train.weighing import Known

__all__ = [
    "Checkpoints",
    "Known",
    "Looks",
    "Taught",
    "Validation",
    "check_reach",
    "check_stored",
    "default_learning_rate",
    "learns_lora",
    "make_focus",
    "pick_learning_rate",
    "plan_steps",
    "row_name",
    "rows_per_step",
    "train",
    "train_classifier",
    "tune",
    "unlike_reference",
    "unlike_tokenizers",
]
