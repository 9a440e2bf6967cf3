"""Recipes and the small grammars of the command line."""

from pilotfish.config.labeling import LabelConfig
from pilotfish.config.method import Method, parse_method, parse_methods, split_commas
from pilotfish.config.recipe import (
    SEEDS,
    Gate,
    Pricing,
    Recipe,
    Variant,
    make_recipe,
    read_recipe,
)
from pilotfish.config.schema import recipe_schema
from pilotfish.config.settings import upgrade_overrides, upgrade_settings
from pilotfish.config.training import TrainConfig, WeakTrainConfig
from pilotfish.config.weak_to_strong import WeakToStrong, make_weak_to_strong

__all__ = [
    "SEEDS",
    "Gate",
    "LabelConfig",
    "Method",
    "Pricing",
    "Recipe",
    "TrainConfig",
    "Variant",
    "WeakToStrong",
    "WeakTrainConfig",
    "make_recipe",
    "make_weak_to_strong",
    "parse_method",
    "parse_methods",
    "read_recipe",
    "recipe_schema",
    "split_commas",
    "upgrade_overrides",
    "upgrade_settings",
]
