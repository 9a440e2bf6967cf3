"""pilotfish: a small model picks the rows worth learning from, a large one learns from them."""

from pilotfish._version import __version__

__all__ = ["__version__"]
