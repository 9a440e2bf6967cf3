"""A plan as lines of text: one per step, equal steps of several seeds as one."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from pilotfish.arms.selections import ArmSelections
from pilotfish.config import Recipe
from pilotfish.data import Pool
from pilotfish.data.held_out import HeldOutData
from pilotfish.planning.data import Holding
from pilotfish.planning.lengths import Model
from pilotfish.planning.plan import ask, by_formula, priced
from pilotfish.planning.result import Level, Plan
from pilotfish.planning.steps import Step
from pilotfish.progress import duration

HEAD = ("step", "stage", "what", "rows", "tokens", "FLOPs", "memory", "time")


def lines(plan: Plan) -> list[str]:
    """For people."""
    head = [*HEAD, *([plan.currency or "money"] if plan.per_hour is not None else [])]
    rows = [_row(group, plan) for group in _groups(plan.chosen.steps)]
    total = f"total: {_spent(plan, plan.chosen)}"
    told = [*_table([head, *rows]), total, "", plan.even.sentence, "", *level_lines(plan)]
    return [*told, "", *plan.notes]


def level_lines(plan: Plan) -> list[str]:
    """The price of each level of evidence, the chosen one marked."""
    return [
        f"{'->' if level is plan.chosen else '  '} evidence {name}: {_spent(plan, level)}"
        for name, level in plan.levels.items()
    ]


def _spent(plan: Plan, level: Level) -> str:
    flops = "" if level.flops is None else f", {level.flops:.2e} FLOPs"
    paid = _paid(plan, level.seconds)
    return (
        f"{level.models} model{'' if level.models == 1 else 's'} trained, {level.seeds} "
        f"seed{'' if level.seeds == 1 else 's'}{flops}, about {duration(level.seconds)}"
        + (f", {paid} {plan.currency}".rstrip() if paid else "")
    )


def _paid(plan: Plan, seconds: float) -> str:
    """Money, "" where nobody said what an hour costs."""
    money = plan.money(seconds)
    if money is None:
        return ""
    return f"{money:,.2f}" if money >= 0.01 else "<0.01"


def _groups(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Steps that are one line: selections, answers, and the seeds of an arm."""

    def key(step: Step) -> str:
        if step.stage in ("select", "judge"):
            return step.stage
        return f"{step.stage} {step.name.partition(' seed ')[0]}"

    first = {key(step): step.n for step in reversed(steps)}
    ordered = sorted(steps, key=lambda step: (first[key(step)], step.n))
    yield from (list(group) for _, group in groupby(ordered, key))


def _name(group: Sequence[Step]) -> str:
    one = group[0]
    if len(group) == 1:
        return one.name
    plural = {"select": "selections", "judge": "models"}.get(one.stage)
    return (
        f"{len(group)} {plural}" if plural else f"{one.name.partition(' seed ')[0]} x {len(group)}"
    )


def _numbers(group: Sequence[Step]) -> str:
    if len(group) < 4:
        return ", ".join(str(step.n) for step in group)
    return f"{group[0].n} .. {group[-1].n}"


def _row(group: Sequence[Step], plan: Plan) -> list[str]:
    one, seconds = group[0], sum(step.seconds for step in group)
    paid = _paid(plan, seconds)
    return [
        _numbers(group),
        one.stage,
        _name(group),
        f"{one.rows:,}",
        _sum([step.tokens for step in group], "{:,.0f}"),
        _sum([step.flops for step in group], "{:.2e}"),
        _memory(one),
        duration(seconds),
        *([paid] if paid else []),
    ]


def _sum(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return form.format(sum(known)) if len(known) == len(values) else "-"


def _memory(step: Step) -> str:
    if not step.memory_bytes:
        return "-"
    mark = "" if step.memory == "measured" else "~"
    return f"{mark}{step.memory_bytes / 2**30:.1f} GiB"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        yield "  ".join([*left, *right]).rstrip()


ROWS = 200  # of the pool whose length is looked at


def price_lines(
    recipe: Recipe, pool: Pool, beside: HeldOutData, picks: ArmSelections, metric: str
) -> list[str]:
    """The price of every evidence level, the chosen one marked; from shapes and lengths alone."""
    holding = Holding(pool, beside, len(pool), True, 0.0)
    models = Model.of(recipe.weak), Model.of(recipe.strong)
    asked = ask(recipe, picks, holding, models, metric, most=ROWS)
    lines: Sequence[str] = level_lines(priced(asked, by_formula(asked)))
    return ["price (rough: `pilotfish plan` measures it):", *lines]
