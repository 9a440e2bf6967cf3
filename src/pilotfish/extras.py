"""Check for an optional dependency where it is first needed."""

from importlib.util import find_spec

from pilotfish.errors import MissingExtra

_PACKAGES = {
    "models": ("torch", "transformers"),
    "train": ("torch", "transformers", "accelerate", "peft"),
    "lm-eval": ("torch", "transformers", "accelerate", "lm_eval"),
}


def need_torch(feature: str, *, extra: str = "models") -> None:
    """Check that the packages of an extra are installed, which a feature ("training") needs.

    Raises:
        MissingExtra: They are not; the hint is the pip line.
    """
    if any(find_spec(package) is None for package in _PACKAGES[extra]):
        raise MissingExtra(feature, extra)
