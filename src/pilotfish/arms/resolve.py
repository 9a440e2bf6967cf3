"""Resolve a recipe: its arms, methods and selections, decided and checked once."""

from collections.abc import Sequence
from dataclasses import dataclass

from pilotfish.arms.arms import Arm, grid_for
from pilotfish.arms.selections import MAIN, ArmSelections, method_of_recipe
from pilotfish.arms.training_data import check_losses
from pilotfish.budget import parse_budget
from pilotfish.comparison.gates import check_gates
from pilotfish.config import Method, Recipe


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe with everything that follows from its settings alone.

    Attributes:
        recipe: The settings.
        arms: Every arm, in the order of training.
        selections: The selections that the arms train on, with their methods and budgets.
        why: Why the method of the verdict was taken, for the report.
    """

    recipe: Recipe
    arms: Sequence[Arm]
    selections: ArmSelections
    why: str

    @property
    def method(self) -> Method:
        """The method of the verdict."""
        return self.selections.methods[MAIN]


def resolve_recipe(recipe: Recipe) -> ResolvedRecipe:
    """Decide the arms, methods and selections of a recipe, before any row is read.

    Raises:
        UsageError: A budget, arm, method, loss or gate is unknown, or settings contradict.
    """
    for budget in recipe.all_budgets:
        parse_budget(budget)
    arms = grid_for(recipe)
    check_losses(recipe, arms)
    check_gates(recipe.gates, [arm.name for arm in arms], tasks=bool(recipe.task_column))
    method, why = method_of_recipe(recipe)
    return ResolvedRecipe(recipe, arms, ArmSelections.of(recipe, method, arms), why)
