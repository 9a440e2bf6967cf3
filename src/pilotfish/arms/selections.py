"""The selections that the arms of a comparison train on: every method, budget and control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilotfish.arms.arms import Arm
from pilotfish.arms.matched_compute import MatchedCompute
from pilotfish.budget import parse_budget
from pilotfish.config import Method, Recipe, parse_method
from pilotfish.errors import UsageError
from pilotfish.methods import make
from pilotfish.run_context import RunContext
from pilotfish.selection.controls import Control, ControlMethod, draw_control
from pilotfish.selection.select import SelectConfig, select_into

MAIN = "selected"
DEFAULT = "perplexity(direction=low,end=true)"
WHY = (
    "the default: of the methods compared by benchmarks/default_method.py it found most right rows "
    "in a dirty pool; where the pool is clean, random rows did better"
)
_SEEDED: tuple[ControlMethod, ...] = ("random", "length_matched", "random_tokens")


@dataclass(frozen=True)
class ArmSelections:
    """The selections that the arms of a recipe need.

    Attributes:
        recipe: The recipe.
        methods: Name of the selection -> METHOD; the verdict's method comes first.
        slugs: Slug of each budget -> the budget as typed; "" for the verdict's budget.
        wanted: Names of the selections that arms train on, with `{seed}` left in.
    """

    recipe: Recipe
    methods: Mapping[str, Method]
    slugs: Mapping[str, str]
    wanted: frozenset[str]

    @classmethod
    def of(cls, recipe: Recipe, method: Method, arms: Sequence[Arm]) -> "ArmSelections":
        """Collect the selections of a recipe.

        Args:
            recipe: The recipe.
            method: The method of the verdict.
            arms: The arms that are compared.

        Raises:
            UsageError: A method or a budget is invalid, or a budget is given twice.
        """
        methods = {MAIN: method, **{n: parse_method(text) for n, text in recipe.methods.items()}}
        for name, each in methods.items():
            make(each, recipe.direction if name == MAIN else None)
        slugs = {"": recipe.budget}
        for text in recipe.all_budgets[1:]:
            slug = parse_budget(text).slug
            if slug in slugs or slug == parse_budget(recipe.budget).slug:
                raise UsageError(
                    f"the budget {text} is given twice in {recipe.all_budgets}",
                    hint="list every budget once",
                )
            slugs[slug] = text
        return cls(recipe, methods, slugs, frozenset(arm.selection for arm in arms))

    @property
    def with_controls(self) -> list[str]:
        """Selections that canaries are measured for: one budget, and one seed of each control."""
        return [*self.methods, "longest", "random-0"]

    def columns(self, suffix: str) -> dict[str, Method]:
        """Return score column -> method, one per distinct METHOD, so no method is scored twice."""
        return {self.column(each, suffix): each for each in self.methods.values()}

    def column(self, method: Method, suffix: str) -> str:
        """Return the score column of a method; a suffix ("-1") names the weak model of a seed."""
        return method.text + (f"#seed{suffix}" if suffix else "")


@dataclass(frozen=True)
class SeedDraw:
    """One seed of a comparison.

    Attributes:
        number: The seed's number, from 0.
        draw: The seed of its random draws.
        suffix: "-<number>" if the weak model is tuned for this seed and selects again; "" if the
            selections of seed 0 serve all seeds.
    """

    number: int
    draw: int
    suffix: str

    @property
    def selects(self) -> bool:
        """Whether this seed makes selections of its own."""
        return bool(self.suffix) or self.number == 0


def select_for_seed(context: RunContext, needed: ArmSelections, seed: SeedDraw) -> None:
    """Make the selections of one seed: every method at every budget, and the controls.

    Controls are drawn for the verdict's method only.

    Args:
        context: The run; the caller holds its lock.
        needed: The selections of the recipe.
        seed: The seed.
    """
    recipe = needed.recipe
    for slug, budget in needed.slugs.items():
        at = f"@{slug}" if slug else ""
        for name, method in needed.methods.items():
            if seed.selects and (name == MAIN or f"{name}{at}" in needed.wanted):
                config = SelectConfig(
                    method,
                    budget,
                    f"{name}{at}{seed.suffix}",
                    score=needed.column(method, seed.suffix),
                    direction=recipe.direction if name == MAIN else None,
                    seed=seed.draw,
                    allow_short=recipe.allow_short,
                )
                select_into(context, config)
        of = f"{MAIN}{at}{seed.suffix}"
        for control in _SEEDED:
            if f"{control}{at}-{{seed}}" in needed.wanted:
                drawn = Control(control, of, seed.draw)
                draw_control(context, drawn, f"{control}{at}-{seed.number}")
        if f"longest{at}" in needed.wanted and seed.selects:
            draw_control(context, Control("longest", of), f"longest{at}{seed.suffix}")


def select_matched_compute(
    context: RunContext, needed: ArmSelections, seed: SeedDraw, compute: MatchedCompute
) -> None:
    """Draw random rows at equal compute: more rows, for the FLOPs that selecting has cost.

    Args:
        context: The run; the caller holds its lock.
        needed: The selections of the recipe.
        seed: The seed.
        compute: The FLOPs of the selection and of training on it.
    """
    for slug in needed.slugs:
        at = f"@{slug}" if slug else ""
        if f"random_compute{at}-{{seed}}" in needed.wanted:
            control = Control(
                "random_compute", f"{MAIN}{at}{seed.suffix}", seed.draw, more=compute.more
            )
            draw_control(context, control, f"random_compute{at}-{seed.number}")


def method_of_recipe(recipe: Recipe) -> tuple[Method, str]:
    """Return the recipe's method, or the default, and the reason for the choice.

    Raises:
        UsageError: The method or its direction is invalid.
    """
    if recipe.method:
        method, why = parse_method(recipe.method), "as given"
    else:
        method, why = parse_method(DEFAULT), WHY
    make(method, recipe.direction)
    return method, why
