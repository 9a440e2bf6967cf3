"""Recipes and the small grammars of the command line."""

from pilotfish.config.method import Method, parse_method, parse_methods, split_commas
from pilotfish.config.recipe import SEEDS, Recipe, Variant, make_recipe, read_recipe
from pilotfish.config.training import TrainConfig, TuneConfig

__all__ = [
    "SEEDS",
    "Method",
    "Recipe",
    "TrainConfig",
    "TuneConfig",
    "Variant",
    "make_recipe",
    "parse_method",
    "parse_methods",
    "read_recipe",
    "split_commas",
]
