"""What a run will cost, said before it starts: the plan, without its probe."""

from collections.abc import Sequence

from pilotfish.config import Recipe
from pilotfish.flows.picks import Picks
from pilotfish.flows.plan import ask, by_formula, priced
from pilotfish.flows.plan_data import Holding
from pilotfish.flows.plan_tokens import Model
from pilotfish.flows.plan_words import level_lines
from pilotfish.flows.setup import Beside
from pilotfish.pool import Pool

ROWS = 200  # of the pool whose length is looked at


def price_lines(recipe: Recipe, pool: Pool, beside: Beside, picks: Picks, metric: str) -> list[str]:
    """The price of every evidence level, the chosen one marked; from shapes and lengths alone."""
    holding = Holding(pool, beside, len(pool), True, 0.0)
    models = Model.of(recipe.weak), Model.of(recipe.strong)
    asked = ask(recipe, picks, holding, models, metric, most=ROWS)
    lines: Sequence[str] = level_lines(priced(asked, by_formula(asked)))
    return ["price (rough: `pilotfish plan` measures it):", *lines]
