"""What `plan` found, as nouns: the levels of evidence, and the whole of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.flows.plan_even import Even
from pilotfish.flows.plan_steps import Step


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
