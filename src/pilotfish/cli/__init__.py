"""The command line: one file per command; the only room that prints."""

from pilotfish.cli.main import main

__all__ = ["main"]
