"""pilotfish: a small model picks the rows worth learning from, a large one learns from them."""

from typing import TYPE_CHECKING, Any

from pilotfish._version import __version__

if TYPE_CHECKING:
    from pilotfish.api import Picked, Scores, read, run, score, select

__all__ = ["Picked", "Scores", "__version__", "read", "run", "score", "select"]


def __getattr__(name: str) -> Any:
    # lazily, so that `import pilotfish` stays light
    if name in __all__:
        from pilotfish import api

        return getattr(api, name)
    raise AttributeError(f"module 'pilotfish' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
