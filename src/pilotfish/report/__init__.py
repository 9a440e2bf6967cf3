"""A run's files as report.json and one self-contained page; nothing is measured again."""

from pilotfish.report.build import build, write
from pilotfish.report.page import page

__all__ = ["build", "page", "write"]
