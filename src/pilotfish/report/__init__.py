"""A run's files as report.json and one self-contained page; nothing is recomputed here."""

from pilotfish.report.build import build, write
from pilotfish.report.page import page

__all__ = ["build", "page", "write"]
