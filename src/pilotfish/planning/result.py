"""What `plan` found, as nouns: the levels of evidence, and the whole of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pilotfish import flops as ledger
from pilotfish.arms.arms import ARMS
from pilotfish.planning.jobs import jobs_of
from pilotfish.planning.lengths import in_view
from pilotfish.planning.steps import Counting, Step, train_step
from pilotfish.progress import duration


@dataclass(frozen=True)
class Even:
    """In seconds first. needed: share of training on all rows; saved: what the budget saves."""

    seconds: float  # that tuning, scoring and selecting take once
    full: float  # seconds of training on every row, for as many epochs as on the selected ones
    needed: float
    saved: float
    needed_flops: float | None
    ratio: float  # strong parameters for every weak one
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "sentence": self.sentence,
            "needed": self.needed,
            "saved": self.saved,
            "needed_flops": self.needed_flops,
            "ratio": self.ratio,
            "selection_seconds": self.seconds,
            "full_seconds": self.full,
        }


def break_even(counting: Counting, steps: Sequence[Step]) -> Even:
    """Charged to the selection: the first step of each of its stages; seeds repeat them for
    evidence alone."""
    first: dict[str, Step] = {}
    for step in steps:
        first.setdefault(step.stage, step)
    paid = sum(first[stage].seconds for stage in ledger.SELECTION_STAGES if stage in first)
    selected, full = _trainings(counting)
    needed, saved = paid / full.seconds, 1 - selected.seconds / full.seconds
    flops = _in_flops(counting, full)
    ratio = counting.strong.parameters / counting.weak.parameters
    sentence = _sentence(paid, full.seconds, needed, flops, saved)
    return Even(paid, full.seconds, needed, saved, flops, ratio, sentence)


def _trainings(counting: Counting) -> tuple[Step, Step]:
    """Training on the selected rows, and on all for as many epochs."""
    from pilotfish.data_order import rows_per_step

    recipe = counting.grounds.recipe
    selected, full = jobs_of(counting.grounds, [ARMS["selected"], ARMS["full"]], 1)
    size = rows_per_step(recipe.train)
    epochs = selected.steps * size / selected.rows
    whole = replace(full, steps=max(1, math.ceil(epochs * full.rows / size)))
    return train_step(counting, selected), train_step(counting, whole)


def _in_flops(counting: Counting, full: Step) -> float | None:
    """The ledger's formula: passes of the weak model against epochs of the strong one."""
    from pilotfish.data_order import rows_per_step

    grounds, (weak, strong) = counting.grounds, (counting.weak.shape, counting.strong.shape)
    if weak is None or strong is None:
        return None
    epochs = full.steps * rows_per_step(grounds.recipe.train) / grounds.pool
    return ledger.break_even(
        weak, strong, passes=len(grounds.lengths.passes), epochs=epochs,
        context=in_view(grounds.lengths.strong), lora=counting.lora,
    )  # fmt: skip


def _sentence(paid: float, full: float, needed: float, flops: float | None, saved: float) -> str:
    beside = "" if flops is None else f", {flops:.1%} in FLOPs"
    start = (
        f"selecting takes {duration(paid)}, training on all rows {duration(full)}: it pays off "
        f"only if the selection saves more than {needed:.1%} of the strong model's training"
        f"{beside}"
    )
    if needed >= 1:
        return f"{start}; it cannot, for no training is dearer than all of it"
    verb = "saves" if saved > needed else "saves only"
    return f"{start}; this budget {verb} {saved:.1%}"


@dataclass(frozen=True)
class Level:
    """What one level of evidence takes."""

    steps: Sequence[Step]
    seeds: int

    @property
    def seconds(self) -> float:
        """All steps, one after the other."""
        return sum(step.seconds for step in self.steps)

    @property
    def flops(self) -> float | None:
        """Of the steps whose FLOPs are known; None where a model's shape is not."""
        known = [step.flops for step in self.steps if step.tokens is not None]
        return None if None in known else float(sum(each or 0.0 for each in known))

    @property
    def models(self) -> int:
        """Strong models trained."""
        return sum(step.models for step in self.steps if step.stage == "train")


@dataclass(frozen=True)
class Plan:
    """Everything `plan` says."""

    chosen: Level
    levels: Mapping[str, Level]
    even: Even
    machine: Mapping[str, Any]
    notes: Sequence[str]
    per_hour: float | None = None
    currency: str = ""

    def money(self, seconds: float) -> float | None:
        """At the price of an hour, where one was given."""
        return None if self.per_hour is None else seconds / 3600 * self.per_hour

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "steps": [self._step(step) for step in self.chosen.steps],
            "total": self._level(self.chosen),
            "break_even": self.even.as_dict(),
            "evidence": {name: self._level(level) for name, level in self.levels.items()},
            "machine": dict(self.machine),
            "notes": list(self.notes),
        }

    def _step(self, step: Step) -> dict[str, Any]:
        names = ("n", "stage", "name", "rows", "tokens", "flops", "memory_bytes", "memory",
                 "models", "steps", "seconds")  # fmt: skip
        return {**{name: getattr(step, name) for name in names}, "money": self.money(step.seconds)}

    def _level(self, level: Level) -> dict[str, Any]:
        return {
            "models": level.models,
            "seeds": level.seeds,
            "flops": level.flops,
            "memory_bytes": max(step.memory_bytes or 0 for step in level.steps),
            "seconds": level.seconds,
            "money": self.money(level.seconds),
        }
