"""The arms of a run: what was trained and evaluated, what is missing, and the next step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.comparison.arm_names import UNTRAINED, parse_arm_name
from pilotfish.comparison.data import ComparisonData, arm_table
from pilotfish.evaluation.results import EvaluatedRun, load_evaluated
from pilotfish.report import run_files
from pilotfish.report.run_files import ArmSeed
from pilotfish.store import Run

# Values of `state` in report.json.
EVALUATED = "judged"
TRAINED = "trained, not judged"
NOT_TRAINED = "not trained"
NOT_EVALUATED = "not judged"


@dataclass(frozen=True)
class ArmFiles:
    """The results and training manifests of a run.

    Attributes:
        evaluated: All results; None before the first evaluation.
        trained: Manifest of each training, by arm and seed.
        tuned: Manifest of each weak model that was tuned on trusted rows.
    """

    evaluated: EvaluatedRun | None
    trained: Mapping[ArmSeed, Mapping[str, Any]]
    tuned: Mapping[ArmSeed, Mapping[str, Any]]

    @property
    def finished(self) -> set[ArmSeed]:
        """Every arm and seed with a result."""
        results = self.evaluated.results if self.evaluated else {}
        return {(arm, seed) for arm, seeds in results.items() for seed in seeds}


def read_arms(run: Run) -> ArmFiles:
    """Read the evaluated items and the training manifests of a run."""
    return ArmFiles(load_evaluated(run.store), run_files.trained(run), run_files.tuned(run))


def arms(files: ArmFiles, metric: str | None) -> list[dict[str, Any]]:
    """Return the `arms` of report.json, best mean first, those without a result last.

    Args:
        files: Results and manifests.
        metric: Metric of the run, for arms that are not evaluated yet.

    Returns:
        The entries of `arm_table`, each with seed_means (one per evaluated seed, over the items
        that were scored for every seed, so that their mean is `mean`), trusted_rows and state.
    """
    evaluated = files.evaluated or EvaluatedRun({}, metric or "", True, "")
    weak = files.tuned if "weak" in evaluated.results else {}
    data = ComparisonData(
        evaluated.results,
        evaluated.metric,
        evaluated.higher_is_better,
        trained={**files.trained, **weak},
    )
    rows = arm_table(data)
    for row in rows:
        name, means = row["name"], []
        if data.has(name):
            # Seeds without a result yet are listed as missing, not next to a mean without them.
            row["seeds"] = sorted(data.results[name])
            values = data.values(name)
            usable = values[:, np.isfinite(values).all(axis=0)]
            means = [float(mean) for mean in usable.mean(axis=1)] if usable.size else []
        own = [
            facts.get("trusted_rows") for (arm, _), facts in files.trained.items() if arm == name
        ]
        row["seed_means"] = means
        row["trusted_rows"] = max((int(n) for n in own if n is not None), default=None)
        row["state"] = TRAINED if row["mean"] is None else EVALUATED
    sign = -1 if evaluated.higher_is_better else 1
    return sorted(rows, key=lambda row: (row["mean"] is None, sign * (row["mean"] or 0.0)))


def missing(run: Run, files: ArmFiles) -> list[dict[str, Any]]:
    """Return the arms and seeds that were planned and have no result, with the state of each."""
    plan, tuned = run.section("evidence"), run_files.has_trusted(run)
    planned = []
    for arm in map(str, plan.get("arms", ())):
        seeds = [int(seed) for seed in plan.get("seeds", ())]
        if arm == "base" or (arm == "weak" and not tuned):
            seeds = seeds[:1]  # untrained models are evaluated once
        planned += [(arm, seed) for seed in seeds]
    gaps: dict[tuple[str, str], list[int]] = {}
    for arm, seed in [*planned, *sorted({*files.trained} - {*planned})]:
        if (arm, seed) in files.finished:
            continue
        state = TRAINED if (arm, seed) in files.trained else NOT_TRAINED
        gaps.setdefault((arm, NOT_EVALUATED if arm in UNTRAINED else state), []).append(seed)
    return [{"arm": arm, "seeds": seeds, "state": state} for (arm, state), seeds in gaps.items()]


def equal_steps(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the number of optimizer steps if all trained arms had the same."""
    counts = steps_taken(rows)
    return counts.pop() if len(counts) == 1 else None


def steps_taken(rows: Sequence[Mapping[str, Any]]) -> set[int]:
    """Return the numbers of optimizer steps of the arms in the primary table.

    Arms matched on epochs or compute, and the weak model, have their own number of steps.
    """
    counts = set()
    for row in rows:
        parts = parse_arm_name(str(row["name"]))
        matched = parts.equal or parts.arm == "random_compute"
        if row["steps"] and not matched and row["name"] not in UNTRAINED:
            counts.add(int(row["steps"]))
    return counts


def next_step(run: Run, files: ArmFiles) -> str:
    """Say why nothing was tested yet, and which command comes next."""
    name, rows = run.root.resolve().name, run.section("pool").get("rows")
    read = f"{rows:,} rows were read" if rows is not None else "nothing was read yet"
    scores, selections = run.section("scores"), run.section("selections")
    if not scores:
        return (
            f"Not tested: {read}, and no row is scored. "
            f"Next: pilotfish score DATA --weak MODEL --method METHOD --out {name}"
        )
    chosen = run_files.main_selection(selections)
    if not chosen:
        return (
            f"Not tested: {read} and scored, and no row is selected. "
            f"Next: pilotfish select {name} --method '{min(scores)}' --budget 10%"
        )
    kept = selections[chosen].get("delivered")
    if kept is not None and rows is not None:
        read = f"{kept:,} of {rows:,} rows were selected"
    if not files.trained:
        return (
            f"Not tested: {read}, and no model is trained on them. "
            f"Next: pilotfish train {name} --strong MODEL"
        )
    return (
        f"Not tested: {read} and a model was trained on them, but no model is evaluated. "
        f"Next: pilotfish evaluate {name} --test DATA"
    )
