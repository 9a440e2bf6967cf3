"""Recipes and the small grammars of the command line."""

from pilotfish.config.method import Method, parse_method, parse_methods
from pilotfish.config.training import TrainConfig

__all__ = ["Method", "TrainConfig", "parse_method", "parse_methods"]
