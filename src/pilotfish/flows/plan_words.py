"""A plan as lines of text: one per step, equal steps of several seeds as one."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from pilotfish.flows.durations import duration
from pilotfish.flows.plan_result import Level, Plan
from pilotfish.flows.plan_steps import Step

HEAD = ("step", "stage", "what", "rows", "tokens", "FLOPs", "memory", "time")


def lines(plan: Plan) -> list[str]:
    """For people."""
    money = plan.per_hour is not None
    head = [*HEAD, *(["money"] if money else [])]
    rows = [_row(group, plan.money) for group in _groups(plan.chosen.steps)]
    told = [*_table([head, *rows]), *_total(plan), "", plan.even.sentence, ""]
    for name, level in plan.levels.items():
        mark = "->" if level is plan.chosen else "  "
        told.append(f"{mark} {level_words(name, level, plan.money)}")
    return [*told, "", *plan.notes]


def level_words(
    name: str, level: Level, money: Callable[[float], float | None] = lambda seconds: None
) -> str:
    """The price of one level of evidence."""
    flops = "" if level.flops is None else f"{level.flops:.2e} FLOPs, "
    paid = money(level.seconds)
    return (
        f"evidence {name}: {level.models} models, {level.seeds} "
        f"seed{'' if level.seeds == 1 else 's'}, {flops}about {duration(level.seconds)}"
        + ("" if paid is None else f", {paid:,.2f}")
    )


def _groups(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Steps of one stage and arm together, whichever their seed; they need not be neighbours."""

    def key(step: Step) -> str:
        return f"{step.stage} {step.name.partition(' seed ')[0]}"

    first = {key(step): step.n for step in reversed(steps)}
    ordered = sorted(steps, key=lambda step: (first[key(step)], step.n))
    yield from (list(group) for _, group in groupby(ordered, key))


def _row(group: Sequence[Step], money: Callable[[float], float | None]) -> list[str]:
    one, seconds = group[0], sum(step.seconds for step in group)
    name = one.name.partition(" seed ")[0] if len(group) > 1 else one.name
    paid = money(seconds)
    return [
        ", ".join(str(step.n) for step in group) if len(group) < 4
        else f"{one.n} .. {group[-1].n}",
        one.stage,
        f"{name} x {len(group)} seeds" if len(group) > 1 else name,
        f"{one.rows:,}",
        _sum([step.tokens for step in group], "{:,.0f}"),
        _sum([step.flops for step in group], "{:.2e}"),
        _memory(one),
        duration(seconds),
        *([] if paid is None else [f"{paid:,.2f}"]),
    ]  # fmt: skip


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


def _total(plan: Plan) -> list[str]:
    paid = plan.money(plan.chosen.seconds)
    flops = "" if plan.chosen.flops is None else f", {plan.chosen.flops:.2e} FLOPs"
    return [
        f"total: {plan.chosen.models} models trained{flops}, {duration(plan.chosen.seconds)}"
        + ("" if paid is None else f", {paid:,.2f}")
    ]
