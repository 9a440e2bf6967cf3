"""Load models safely and identify them; no other room chooses a device.

Importing this room without torch or transformers raises MissingExtra with the pip line, so callers
import it inside functions.
"""

from pilotfish.errors import MissingExtra

try:
    import torch  # noqa: F401
    import transformers  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtra("running a model", "models") from error

from pilotfish.models.classifier import classes_of, load_classifier
from pilotfish.models.loading import (
    TINY,
    Loaded,
    count_parameters,
    load,
    load_tokenizer,
    pick_device,
    set_threads,
    window_of,
)
from pilotfish.models.provenance import (
    config_of,
    identify,
    is_classifier,
    model_digest,
    origin,
    silence_loading,
    tokenizer_digest,
)

__all__ = [
    "TINY",
    "Loaded",
    "classes_of",
    "config_of",
    "count_parameters",
    "identify",
    "is_classifier",
    "load",
    "load_classifier",
    "load_tokenizer",
    "model_digest",
    "origin",
    "pick_device",
    "set_threads",
    "silence_loading",
    "tokenizer_digest",
    "window_of",
]
