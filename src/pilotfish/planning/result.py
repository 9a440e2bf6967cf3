"""The result of `plan`: steps, prices of the evidence levels, break-even; as JSON and as text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from pilotfish import flops as ledger
from pilotfish.arms.arms import ARMS
from pilotfish.arms.price import Price, level_lines, money_text
from pilotfish.arms.workload import mean_context
from pilotfish.planning.steps import CostInputs, Step, train_step
from pilotfish.progress import duration

_STEP_FIELDS = (
    "n", "stage", "name", "rows", "tokens", "flops", "memory_bytes", "memory", "models", "steps",
    "seconds",
)  # fmt: skip
_HEAD = ("step", "stage", "what", "rows", "tokens", "FLOPs", "memory", "time")


@dataclass(frozen=True)
class Level:
    """The steps of one level of evidence."""

    steps: Sequence[Step]
    seeds: int

    @property
    def seconds(self) -> float:
        """Seconds of all steps, one after the other."""
        return sum(step.seconds for step in self.steps)

    @property
    def flops(self) -> float | None:
        """FLOPs of the steps that read or train; None where a model's shape is unknown."""
        known = [step.flops for step in self.steps if step.tokens is not None]
        return None if None in known else float(sum(each or 0.0 for each in known))

    @property
    def models(self) -> int:
        """Strong models trained."""
        return sum(step.models for step in self.steps if step.stage == "train")

    @property
    def price(self) -> Price:
        """The sums over all steps."""
        return Price(self.models, self.seeds, self.flops, self.seconds)


@dataclass(frozen=True)
class BreakEven:
    """The cost of selecting, compared with training on every row."""

    seconds: float  # of tuning, scoring and selecting, once
    full: float  # seconds of training on every row, for as many epochs as on the selected ones
    needed: float  # seconds / full: the share of training that the selection must save
    saved: float  # the share of training that this budget saves
    needed_flops: float | None  # `needed` in FLOPs
    ratio: float  # parameters of the strong model for each of the weak one

    @property
    def sentence(self) -> str:
        """The break-even as a sentence."""
        flops = "" if self.needed_flops is None else f", {self.needed_flops:.1%} in FLOPs"
        start = (
            f"selecting takes {duration(self.seconds)}, training on all rows {duration(self.full)}:"
            f" it pays off only if the selection saves more than {self.needed:.1%} of the strong "
            f"model's training{flops}"
        )
        if self.needed >= 1:
            return f"{start}; it cannot, since no training costs more than all of it"
        verb = "saves" if self.saved > self.needed else "saves only"
        return f"{start}; this budget {verb} {self.saved:.1%}"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for `--json`."""
        return {
            "sentence": self.sentence,
            "needed": self.needed,
            "saved": self.saved,
            "needed_flops": self.needed_flops,
            "ratio": self.ratio,
            "selection_seconds": self.seconds,
            "full_seconds": self.full,
        }


def break_even(costs: CostInputs, steps: Sequence[Step]) -> BreakEven:
    """Compute the break-even; the first step of each stage is charged to the selection.

    Further seeds repeat these stages for evidence alone.

    Args:
        costs: The work of the run and the rates of this machine.
        steps: The steps of the run.
    """
    from pilotfish.data_order import rows_per_step

    work = costs.work
    first = {step.stage: step for step in reversed(steps)}
    paid = sum(first[stage].seconds for stage in ledger.SELECTION_STAGES if stage in first)
    selected, full = (work.job(ARMS[name], 0) for name in ("selected", "full"))
    size = rows_per_step(work.recipe.train)
    epochs = selected.steps * size / selected.rows  # all rows are trained on for as many
    whole = replace(full, steps=max(1, math.ceil(epochs * full.rows / size)))
    selected_seconds, full_seconds = (train_step(costs, job).seconds for job in (selected, whole))
    weak, strong, flops = work.weak.known_shape, work.strong.known_shape, None
    if weak and strong:
        flops = ledger.break_even(
            weak, strong, passes=len(work.lengths.passes),
            epochs=whole.steps * size / work.pool_rows,
            context=mean_context(work.lengths.strong), lora=work.lora,
        )  # fmt: skip
    return BreakEven(
        paid,
        full_seconds,
        paid / full_seconds,
        1 - selected_seconds / full_seconds,
        flops,
        work.strong.parameters / work.weak.parameters,
    )


@dataclass(frozen=True)
class Plan:
    """What a run will cost."""

    level: str  # the recipe's level of evidence
    levels: Mapping[str, Level]
    even: BreakEven
    machine: Mapping[str, Any]
    notes: Sequence[str]
    per_hour: float | None = None  # money an hour of this machine costs
    currency: str = ""

    @property
    def chosen(self) -> Level:
        """The recipe's level of evidence."""
        return self.levels[self.level]

    def money(self, seconds: float) -> float | None:
        """Return what that many seconds cost; None where an hour has no price."""
        return None if self.per_hour is None else seconds / 3600 * self.per_hour

    def as_dict(self) -> dict[str, Any]:
        """Return the plan for `--json`."""
        steps = [
            {name: getattr(step, name) for name in _STEP_FIELDS}
            | {"money": self.money(step.seconds)}
            for step in self.chosen.steps
        ]
        levels = {
            name: {
                "models": level.models,
                "seeds": level.seeds,
                "flops": level.flops,
                "memory_bytes": max(step.memory_bytes or 0 for step in level.steps),
                "seconds": level.seconds,
                "money": self.money(level.seconds),
            }
            for name, level in self.levels.items()
        }
        return {
            "steps": steps,
            "total": levels[self.level],
            "break_even": self.even.as_dict(),
            "evidence": levels,
            "machine": dict(self.machine),
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Return the plan as text: the table of steps, the total, the break-even and the prices.

        Equal steps of several seeds share a line.
        """
        price = self.per_hour, self.currency
        head = [*_HEAD, *([self.currency or "money"] if self.per_hour is not None else [])]
        rows = [_row(group, self.per_hour) for group in _groups(self.chosen.steps)]
        prices = {name: level.price for name, level in self.levels.items()}
        return [
            *_table([head, *rows]),
            f"total: {self.chosen.price.text(*price)}",
            "",
            self.even.sentence,
            "",
            *level_lines(prices, self.level, *price),
            "",
            *self.notes,
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


def _row(group: Sequence[Step], per_hour: float | None) -> list[str]:
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
    paid = money_text(seconds, per_hour)
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
