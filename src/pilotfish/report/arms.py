"""What was trained and judged: the arms with their seeds, what is missing, and the next step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.comparison.arm_names import parse_arm_name
from pilotfish.comparison.arm_table import UNTRAINED, matrices
from pilotfish.comparison.arm_table import arm_table as arm_table
from pilotfish.evaluation.results import EvaluatedRun, load_evaluated
from pilotfish.report import run_files
from pilotfish.report.run_files import ArmSeed
from pilotfish.store import Run

TRAINED = "trained, not judged"
ABSENT = "not trained"
UNJUDGED = "not judged"


@dataclass(frozen=True)
class ArmSection:
    """Everything judged and trained in a run."""

    judged: EvaluatedRun | None
    trained: Mapping[ArmSeed, Mapping[str, Any]]
    tuned: Mapping[ArmSeed, Mapping[str, Any]]  # the weak model, where trusted rows tuned it

    @property
    def seeds(self) -> set[ArmSeed]:
        """Every arm and seed with a judged result."""
        results = self.judged.results if self.judged else {}
        return {(arm, seed) for arm, seeds in results.items() for seed in seeds}


def arm_sections(run: Run) -> ArmSection:
    """Read the judged items and the training manifests of a run."""
    return ArmSection(load_evaluated(run.store), run_files.trained(run), run_files.tuned(run))


def arms(found: ArmSection, metric: str | None) -> list[dict[str, Any]]:
    """The `arms` of the report, best mean first, those without a result last.

    Beside the contract's fields: `seed_means` (one per judged seed, over the items that every
    seed could score, so that their mean is `mean`), `trusted_rows` and `state`.
    """
    judged = found.judged or EvaluatedRun({}, metric or "", True, "")
    rows = arm_table(
        judged.results,
        {**found.trained, **(found.tuned if "weak" in judged.results else {})},
        metric=judged.metric,
        higher_is_better=judged.higher_is_better,
    )
    for row in rows:
        # Seeds still to be judged are listed as missing, not beside a mean they are not in.
        row["seeds"] = sorted(judged.results.get(row["name"], row["seeds"]))
        row["seed_means"] = _seed_means(judged, row["name"])
        row["trusted_rows"] = _trusted(found, row["name"])
        row["state"] = "judged" if row["mean"] is not None else TRAINED
    sign = -1 if judged.higher_is_better else 1
    return sorted(rows, key=lambda row: (row["mean"] is None, sign * (row["mean"] or 0.0)))


def _seed_means(judged: EvaluatedRun, name: str) -> list[float]:
    if name not in judged.results:
        return []
    (values,) = matrices(judged.results, [name])
    usable = values[:, np.isfinite(values).all(axis=0)]
    return [float(mean) for mean in usable.mean(axis=1)] if usable.size else []


def _trusted(found: ArmSection, name: str) -> int | None:
    own = [told.get("trusted_rows") for (arm, _), told in found.trained.items() if arm == name]
    return max((int(rows) for rows in own if rows is not None), default=None)


def missing(run: Run, found: ArmSection) -> list[dict[str, Any]]:
    """Planned arms and seeds without a result, and how far each came."""
    plan = run.section("evidence")
    tuned = run_files.has_trusted(run)
    gaps: dict[tuple[str, str], list[int]] = {}
    planned = [
        (str(arm), seed) for arm in plan.get("arms", ()) for seed in _seeds(str(arm), plan, tuned)
    ]
    for arm, seed in [*planned, *sorted({*found.trained} - {*planned})]:
        if (arm, seed) not in found.seeds:
            gaps.setdefault((arm, _state(found, arm, seed)), []).append(seed)
    return [{"arm": arm, "seeds": seeds, "state": state} for (arm, state), seeds in gaps.items()]


def _seeds(arm: str, plan: Mapping[str, Any], tuned: bool) -> Sequence[int]:
    """Seeds an arm is judged with: untrained models are judged once."""
    once = arm == "base" or (arm == "weak" and not tuned)
    return [int(seed) for seed in plan.get("seeds", ())][: 1 if once else None]


def _state(found: ArmSection, arm: str, seed: int) -> str:
    if arm in UNTRAINED:
        return UNJUDGED
    return TRAINED if (arm, seed) in found.trained else ABSENT


def equal_steps(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """The number of optimizer steps, where all trained arms had the same."""
    counts = steps_taken(rows)
    return counts.pop() if len(counts) == 1 else None


def steps_taken(rows: Sequence[Mapping[str, Any]]) -> set[int]:
    """The numbers of optimizer steps of the primary table's arms; the weak model has its own."""
    primary = [row for row in rows if not _own_steps(str(row["name"]))]
    return {int(row["steps"]) for row in primary if row["steps"] and row["name"] not in UNTRAINED}


def _own_steps(arm: str) -> bool:
    """Whether an arm holds something else equal, and so has a number of steps of its own."""
    place = parse_arm_name(arm)
    return bool(place.equal) or place.arm == "random_compute"


def next_step(run: Run, found: ArmSection) -> str:
    """Why nothing was tested yet, and the command that comes next."""
    name, rows = run.root.resolve().name, run.section("pool").get("rows")
    pool = f"{rows:,} rows were read" if rows is not None else "nothing was read yet"
    scores, chosen = run.section("scores"), run_files.main_selection(run.section("selections"))
    if not scores:
        command = f"pilotfish score DATA --weak MODEL --method METHOD --out {name}"
        return f"Not tested: {pool}, and none is scored. Next: {command}"
    if not chosen:
        method = next(iter(sorted(scores)))
        command = f"pilotfish select {name} --method '{method}' --budget 10%"
        return f"Not tested: {pool} and scored, and none is selected. Next: {command}"
    kept = run.section("selections")[chosen].get("delivered")
    told = pool if kept is None or rows is None else f"{kept:,} of {rows:,} rows were selected"
    if not found.trained:
        return (
            f"Not tested: {told}, and nothing is trained on them. "
            f"Next: pilotfish train {name} --strong MODEL"
        )
    return (
        f"Not tested: {told} and a model is trained on them, but none is judged. "
        f"Next: pilotfish evaluate {name} --test DATA"
    )
