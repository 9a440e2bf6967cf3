"""A plan as lines of text: one per step, equal steps of several seeds as one."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from pilotfish.arms.price import level_lines, money_text
from pilotfish.planning.result import Plan
from pilotfish.planning.steps import Step
from pilotfish.progress import duration

HEAD = ("step", "stage", "what", "rows", "tokens", "FLOPs", "memory", "time")


def lines(plan: Plan) -> list[str]:
    """Return the table of steps, the total, the break-even and the price of each level."""
    price = plan.per_hour, plan.currency
    head = [*HEAD, *([plan.currency or "money"] if plan.per_hour is not None else [])]
    rows = [_row(group, plan) for group in _groups(plan.chosen.steps)]
    prices = {name: level.price for name, level in plan.levels.items()}
    return [
        *_table([head, *rows]),
        f"total: {plan.chosen.price.text(*price)}",
        "",
        plan.even.sentence,
        "",
        *level_lines(prices, plan.level, *price),
        "",
        *plan.notes,
    ]


def _groups(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Group the steps that share a line: selections, evaluations, and the seeds of an arm."""

    def key(step: Step) -> str:
        if step.stage in ("select", "judge"):
            return step.stage
        return f"{step.stage} {step.name.partition(' seed ')[0]}"

    first = {key(step): step.n for step in reversed(steps)}
    ordered = sorted(steps, key=lambda step: (first[key(step)], step.n))
    yield from (list(group) for _, group in groupby(ordered, key))


def _row(group: Sequence[Step], plan: Plan) -> list[str]:
    """Return the cells of one line: sums of tokens, FLOPs, time and money over the group."""
    one, seconds = group[0], sum(step.seconds for step in group)
    name, numbers, memory = one.name, ", ".join(str(step.n) for step in group), "-"
    if len(group) > 1:
        plural = {"select": "selections", "judge": "models"}.get(one.stage)
        arm = one.name.partition(" seed ")[0]
        name = f"{len(group)} {plural}" if plural else f"{arm} x {len(group)}"
    if len(group) >= 4:
        numbers = f"{one.n} .. {group[-1].n}"
    if one.memory_bytes:
        mark = "" if one.memory == "measured" else "~"
        memory = f"{mark}{one.memory_bytes / 2**30:.1f} GiB"
    paid = money_text(seconds, plan.per_hour)
    return [
        numbers,
        one.stage,
        name,
        f"{one.rows:,}",
        _sum([step.tokens for step in group], "{:,.0f}"),
        _sum([step.flops for step in group], "{:.2e}"),
        memory,
        duration(seconds),
        *([paid] if paid else []),
    ]


def _sum(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return form.format(sum(known)) if len(known) == len(values) else "-"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Align the first three columns left, the numbers right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        yield "  ".join([*left, *right]).rstrip()
