"""Everything a comparison is judged by: results, what each arm learnt, and what was planned."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pilotfish.comparison.arm_table import is_fixed, matrices
from pilotfish.comparison.contrast import Contrast, contrast, short_of_seeds
from pilotfish.evaluation.results import Results
from pilotfish.records import Floats

Trained = Mapping[tuple[str, int], Mapping[str, Any]]


@dataclass(frozen=True)
class ComparisonData:
    """One comparison.

    trained: (arm, seed) -> the manifest of its training. plan: run.json's `evidence`. alpha: one
    minus the level of every interval. tasks: item id -> task, {} where rows have none.
    """

    results: Results
    metric: str
    higher_is_better: bool
    margin: float
    trained: Trained = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, str] = field(default_factory=dict)
    alpha: float = 0.05

    @property
    def budgets(self) -> dict[str, str]:
        """Slug -> the budget as typed, the verdict's ("") first."""
        return dict(self.plan.get("budgets") or {"": str(self.plan.get("budget", ""))})

    @property
    def methods(self) -> list[str]:
        """Names of further selections, each by a method of its own."""
        return list(self.plan.get("methods", {}))

    def has(self, *arms: str) -> bool:
        """Whether all of them were judged."""
        return all(self.results.get(arm) for arm in arms)

    def contrast(self, arm: str, against: str) -> Contrast:
        """The difference of two judged arms over seeds and items."""
        return contrast(
            self.results, arm, against, metric=self.metric,
            higher_is_better=self.higher_is_better, alpha=self.alpha,
        )  # fmt: skip

    def is_claim(self, *arms: str) -> bool:
        """Whether enough seeds stand behind them."""
        return not short_of_seeds(self.results, arms)

    def values(self, arm: str) -> Floats:
        """[s, n] of one arm."""
        return matrices(self.results, [arm])[0]

    def fixed(self, arm: str) -> bool:
        """Whether it is an untrained model, judged once."""
        return is_fixed(self.results, arm)

    def fact(self, arm: str, name: str) -> float | None:
        """A fact of its trainings, the mean over seeds; None where none tells."""
        told = [
            float(facts[name])
            for (each, _), facts in self.trained.items()
            if each == arm and facts.get(name) is not None
        ]
        return sum(told) / len(told) if told else None

    def among(self, ids: set[str]) -> "ComparisonData":
        """The same over some of the items."""
        kept = {
            arm: {seed: {i: v for i, v in items.items() if i in ids} for seed, items in by.items()}
            for arm, by in self.results.items()
        }
        return replace(self, results=kept)

    def items(self) -> list[str]:
        """Ids of all items, sorted."""
        found = {i for by in self.results.values() for items in by.values() for i in items}
        return sorted(found)
