"""Safe loading of models and what names them; nothing else knows a device."""

from pilotfish.models.classifier import classes_of, is_classifier, load_classifier
from pilotfish.models.loading import (
    TINY,
    Loaded,
    count_parameters,
    identify,
    load,
    load_tokenizer,
    model_digest,
    pick_device,
    quiet,
    settle_threads,
    tokenizer_digest,
    window_of,
)
from pilotfish.precision import pick_dtype

__all__ = [
    "TINY",
    "Loaded",
    "classes_of",
    "count_parameters",
    "identify",
    "is_classifier",
    "load",
    "load_classifier",
    "load_tokenizer",
    "model_digest",
    "pick_device",
    "pick_dtype",
    "quiet",
    "settle_threads",
    "tokenizer_digest",
    "window_of",
]
