"""What a comparison is computed from: results, training facts and plan; and the table of arms."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pilotfish import stats
from pilotfish.comparison.arm_names import UNTRAINED, in_order
from pilotfish.comparison.contrast import Contrast
from pilotfish.errors import DataError
from pilotfish.evaluation.results import Results
from pilotfish.records import Floats

Trained = Mapping[tuple[str, int], Mapping[str, Any]]  # (arm, seed) -> manifest of its training

CLAIM_SEEDS = 3  # rules of evidence, 1: fewer seeds of a trained arm support no claim
DEFAULT_MARGIN = 0.02  # for metrics without one of their own: two points of a share


@dataclass(frozen=True)
class ComparisonData:
    """Everything that one comparison of arms is computed from.

    Attributes:
        results: arm -> seed -> item id -> value, nan where the item was unscorable.
        metric: Name of the metric.
        higher_is_better: Which way the metric points.
        margin: Margin of equivalence in units of the metric; None for a metric without one.
        trained: Manifest of each training, by arm and seed.
        plan: The `evidence` section of run.json.
        tasks: item id -> task; {} where test rows have no task.
        alpha: All intervals have confidence 1 - alpha.
    """

    results: Results
    metric: str
    higher_is_better: bool
    margin: float | None = None
    trained: Trained = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, str] = field(default_factory=dict)
    alpha: float = 0.05

    @property
    def usable_margin(self) -> float:
        """The margin, or DEFAULT_MARGIN for sections that cannot do without one."""
        return self.margin or DEFAULT_MARGIN

    @property
    def budgets(self) -> dict[str, str]:
        """Slug -> budget as typed, that of the verdict ("") first."""
        return dict(self.plan.get("budgets") or {"": str(self.plan.get("budget", ""))})

    @property
    def methods(self) -> list[str]:
        """Names of further selections, each made by its own method."""
        return list(self.plan.get("methods", {}))

    def items(self) -> list[str]:
        """Return the ids of all items, sorted."""
        found = {i for by in self.results.values() for items in by.values() for i in items}
        return sorted(found)

    def among(self, ids: set[str]) -> "ComparisonData":
        """Return the same comparison over the given items only."""
        kept = {
            arm: {seed: {i: v for i, v in items.items() if i in ids} for seed, items in by.items()}
            for arm, by in self.results.items()
        }
        return replace(self, results=kept)

    def has(self, *arms: str) -> bool:
        """Return whether all of these arms were evaluated."""
        return all(self.results.get(arm) for arm in arms)

    def values(self, arm: str) -> Floats:
        """Return one arm's values [s, n]."""
        return matrices(self.results, [arm])[0]

    def fixed(self, arm: str) -> bool:
        """Return whether an arm is deterministic (see `is_fixed`)."""
        return is_fixed(self.results, arm)

    def short_of_seeds(self, *arms: str) -> dict[str, int]:
        """Return {arm: its seeds} for the arms with too few seeds to support a claim."""
        counts = {arm: len(self.results.get(arm, {})) for arm in arms}
        return {
            arm: count
            for arm, count in counts.items()
            if count < CLAIM_SEEDS and not (count and self.fixed(arm))
        }

    def is_claim(self, *arms: str) -> bool:
        """Return whether all of these arms have enough seeds to support a claim."""
        return not self.short_of_seeds(*arms)

    def contrast(self, arm: str, against: str) -> Contrast:
        """Estimate the difference of two evaluated arms over seeds and items.

        Raises:
            DataError: The two were not evaluated on the same items.
        """
        a, b = matrices(self.results, [arm, against])
        fixed = (self.fixed(arm), self.fixed(against))
        estimate = stats.difference(a, b, alpha=self.alpha, fixed=fixed)
        usable = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
        means = (float(a[:, usable].mean()), float(b[:, usable].mean())) if usable.any() else None
        return Contrast(
            arm, against, self.metric, self.higher_is_better, estimate, means, self.alpha
        )

    def training_fact(self, arm: str, name: str) -> float | None:
        """Return the mean of a manifest field over an arm's trainings; None if none has it."""
        known = [
            float(facts[name])
            for (each, _), facts in self.trained.items()
            if each == arm and facts.get(name) is not None
        ]
        return sum(known) / len(known) if known else None


def is_fixed(results: Results, arm: str) -> bool:
    """Return whether an arm is deterministic: an untrained model, evaluated once.

    A weak model tuned separately for every seed is evaluated once per seed and counts as trained.
    In a comparison of several runs (`<run>/base`), the last part of the name is the arm.
    """
    return arm.rpartition("/")[2] in UNTRAINED and len(results[arm]) == 1


def matrices(results: Results, arms: Iterable[str]) -> list[Floats]:
    """Return the values of each arm as a matrix [s, n], joined by item id, never by position.

    Args:
        results: arm -> seed -> item id -> value.
        arms: Names of evaluated arms.

    Returns:
        One matrix per arm, rows by seed, all with the same items in the same order; nan where an
        item was unscorable.

    Raises:
        DataError: An arm lacks an item that another one has. Leaving the item out silently could
            hide exactly the rows on which a model failed.
    """
    names = list(arms)
    rows = {(arm, seed): values for arm in names for seed, values in sorted(results[arm].items())}
    everything = sorted(set().union(*rows.values()))
    for (arm, seed), values in rows.items():
        missing = [key for key in everything if key not in values]
        if missing:
            raise DataError(
                f"{arm} seed {seed} was not evaluated on {len(missing)} of {len(everything)} items "
                f"that other arms were evaluated on, for example '{missing[0]}'",
                hint="evaluate every arm on the same test rows",
            )
    return [
        np.array([[rows[arm, seed][key] for key in everything] for seed in sorted(results[arm])])
        for arm in names
    ]


def arm_table(data: ComparisonData) -> list[dict[str, Any]]:
    """Return the `arms` of report.json: one entry per arm that was trained or evaluated.

    Returns:
        {name, rows, tokens, steps, seeds, metric, higher_is_better, mean, low, high, items,
        unscorable} of each. rows, tokens and steps are rounded means over the seeds' manifests;
        None without a manifest (0 for an untrained model). mean is over seeds and the items that
        were scored for every seed; None without one. low and high are None for a trained arm with
        one seed.
    """
    table = []
    for name in in_order({*data.results, *(arm for arm, _ in data.trained)}):
        trainings = [seed for arm, seed in data.trained if arm == name]
        learned: dict[str, int | None] = {}
        for key in ("rows", "tokens", "steps"):
            value = data.training_fact(name, key)
            learned[key] = (0 if name in UNTRAINED else None) if value is None else round(value)
        found = stats.Estimate(None, None, None, (), 0, 0)
        if data.has(name):
            found = stats.mean(data.values(name), alpha=data.alpha, fixed=data.fixed(name))
        table.append(
            {
                "name": name,
                **learned,
                "seeds": sorted({*data.results.get(name, {}), *trainings}),
                "metric": data.metric,
                "higher_is_better": data.higher_is_better,
                "mean": found.value,
                "low": found.low,
                "high": found.high,
                "items": found.items,
                "unscorable": found.excluded,
            }
        )
    return table
