"""A model's config, and what it alone tells."""

from typing import Any

import transformers

from pilotfish.models.file_checks import silence_loading, unloadable
from pilotfish.models.provenance import load_options

_HEADED = "ForSequenceClassification"


def config_of(name: str) -> Any:
    """A model's config, nothing else of it read. UsageError where there is none."""
    told = load_options(name)
    with silence_loading():
        try:
            return transformers.AutoConfig.from_pretrained(name, **told)
        except Exception as error:
            raise unloadable(name, "config", error) from error


def is_classifier(name: str) -> bool:
    """Whether a model folder or hub id holds a trained classifier, by its config alone."""
    made = getattr(config_of(name), "architectures", None) or []
    return any(str(each).endswith(_HEADED) for each in made)
