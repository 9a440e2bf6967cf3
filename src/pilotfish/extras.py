"""Ask for a heavy dependency where it is first needed, with the pip line when it is absent."""

from importlib.util import find_spec

from pilotfish.errors import MissingExtra

_NEEDS = {
    "models": ("torch", "transformers"),
    "train": ("torch", "transformers", "accelerate", "peft"),
    "lm-eval": ("torch", "transformers", "accelerate", "lm_eval"),
}


def need_torch(what: str, *, extra: str = "models") -> None:
    """Raise MissingExtra unless the packages of `extra` can be imported."""
    if any(find_spec(package) is None for package in _NEEDS[extra]):
        raise MissingExtra(what, extra)
