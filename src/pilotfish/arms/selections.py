"""What a comparison picks for one seed: every method at every budget, and the controls to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilotfish.arms.arms import Arm
from pilotfish.arms.matched_compute import MatchedCompute
from pilotfish.budget import parse_budget
from pilotfish.config import Method, Recipe, parse_method
from pilotfish.errors import UsageError
from pilotfish.methods import make
from pilotfish.selection.controls import (
    compute_control,
    length_matched,
    longest_control,
    random_control,
    tokens_control,
)
from pilotfish.selection.select import select_into
from pilotfish.store import Run

MAIN = "selected"


@dataclass(frozen=True)
class ArmSelections:
    """Every selection that the arms of a recipe learn from.

    methods: selection name -> METHOD, the verdict's first. slugs: of the budgets, "" for the
    verdict's -> the budget as typed.
    """

    recipe: Recipe
    methods: Mapping[str, Method]
    slugs: Mapping[str, str]
    wanted: frozenset[str]  # names of selections, `{seed}` not yet filled in

    @classmethod
    def of(cls, recipe: Recipe, method: Method, arms: Sequence[Arm]) -> "ArmSelections":
        """UsageError for a method or a budget that cannot be read, or two budgets that are one."""
        methods = {MAIN: method, **{n: parse_method(text) for n, text in recipe.methods.items()}}
        for name, each in methods.items():
            make(each, recipe.direction if name == MAIN else None)
        slugs = {"": recipe.budget}
        for text in recipe.all_budgets[1:]:
            slug = parse_budget(text).slug
            if slug in slugs or slug == parse_budget(recipe.budget).slug:
                raise UsageError(f"the budget {text} stands twice among {recipe.all_budgets}")
            slugs[slug] = text
        return cls(recipe, methods, slugs, frozenset(arm.selection for arm in arms))

    @property
    def with_controls(self) -> list[str]:
        """Selections that planted rows are held against: a budget and a seed of each kind."""
        return [*self.methods, "longest", "random-0"]

    def columns(self, again: str) -> dict[str, Method]:
        """Score column -> method: one for each distinct METHOD, so that nothing is scored twice."""
        return {self.column(each, again): each for each in self.methods.values()}

    def column(self, method: Method, again: str) -> str:
        """A weak model tuned anew scores anew: its columns bear the number of the seed."""
        return method.text + (f"#seed{again}" if again else "")


def select_for_seed(
    run: Run, picks: ArmSelections, seed: int, *, draw: int, again: str, force: bool
) -> None:
    """Select by every method at every budget, with the controls of the verdict's method.

    draw: what this seed draws with. again: "-<seed>" where the weak model picks anew, "" where the
    selections of seed 0 serve all.
    """
    anew = bool(again) or seed == 0
    for slug, budget in picks.slugs.items():
        at = f"@{slug}" if slug else ""
        for name, method in picks.methods.items():
            if anew and (name == MAIN or f"{name}{at}" in picks.wanted):
                select_into(
                    run, method=method, score=picks.column(method, again), budget=budget,
                    name=f"{name}{at}{again}", seed=draw, allow_short=picks.recipe.allow_short,
                    direction=picks.recipe.direction if name == MAIN else None, force=force,
                )  # fmt: skip
        _controls(run, picks, seed, at=at, draw=draw, again=again, force=force)


def _controls(
    run: Run, picks: ArmSelections, seed: int, *, at: str, draw: int, again: str, force: bool
) -> None:
    to = f"{MAIN}{at}{again}"
    drawn = {"random": random_control, "length_matched": length_matched,
             "random_tokens": tokens_control}  # fmt: skip
    for control, make_it in drawn.items():
        if f"{control}{at}-{{seed}}" in picks.wanted:
            make_it(run, seed=draw, name=f"{control}{at}-{seed}", to=to, force=force)
    if f"longest{at}" in picks.wanted and (again or seed == 0):
        longest_control(run, name=f"longest{at}{again}", to=to, force=force)


def select_matched_compute(
    run: Run,
    picks: ArmSelections,
    seed: int,
    compute: MatchedCompute,
    *,
    draw: int,
    again: str,
    force: bool,
) -> None:
    """Random rows, as many more than selected as the selection's FLOPs would have trained on."""
    for slug in picks.slugs:
        at = f"@{slug}" if slug else ""
        if f"random_compute{at}-{{seed}}" in picks.wanted:
            compute_control(
                run, seed=draw, name=f"random_compute{at}-{seed}", to=f"{MAIN}{at}{again}",
                more=compute.more, force=force,
            )  # fmt: skip


DEFAULT = "perplexity(direction=low,end=true)"
WHY = (
    "the default: of the methods compared by benchmarks/default_method.py it found most right rows "
    "in a dirty pool; where the pool is clean, random rows did better"
)


def method_of_recipe(recipe: Recipe) -> tuple[Method, str]:
    """The method asked for, or the default that benchmarks/default_method.py backs."""
    if recipe.method:
        method, why = parse_method(recipe.method), "as asked"
    else:
        method, why = parse_method(DEFAULT), WHY
    make(method, recipe.direction)  # what is spelt wrong is said before anything is spent
    return method, why
