"""From judged arms to what a weak-to-strong experiment found: PGR, inheritance, calibration."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from pilotfish import stats
from pilotfish.experiments.train import train_folder
from pilotfish.records import Floats, Texts
from pilotfish.weak_to_strong.arms import CEILING, NAIVE, WEAK, W2sArm
from pilotfish.weak_to_strong.evaluate import Judged, judged
from pilotfish.weak_to_strong.experiment import Lab
from pilotfish.weak_to_strong.train import LOOKS, looked_at

RESULT = "weak_to_strong.json"
_PGR = ("raw", "clamped", "low", "high", "boot_low", "boot_high", "defined", "why")


def write_result(lab: Lab) -> dict[str, Any]:
    """Commit weak_to_strong.json, from what was judged and nothing else; returns it."""
    found = result(lab, judged(lab))
    lab.run.store.write_json(RESULT, found)
    return found


def result(lab: Lab, seen: Mapping[str, Judged]) -> dict[str, Any]:
    """What the report shows: floor, ceiling, and every arm between them."""
    weak, ceiling = seen[WEAK.name], seen[CEILING.name]
    arms = [_arm(lab, arm, seen) for arm in lab.arms if not arm.is_rung]
    gap = stats.difference(ceiling.right, weak.right)
    return {
        "metric": lab.task.metric,
        "seeds": lab.recipe.seeds,
        "items": len(lab.split.test),
        "steps": lab.steps,
        "weak": _rung(lab, WEAK.name, weak),
        "ceiling": _rung(lab, CEILING.name, ceiling),
        "gap": _told(gap),
        "arms": arms,
        "alarms": _alarms(lab, seen, arms),
    }


def _rung(lab: Lab, name: str, one: Judged) -> dict[str, Any]:
    return {
        **_told(stats.mean(one.right)),
        "rows": _facts(lab, name, 0)["rows"],
        **_calibration(one),
    }


def _arm(lab: Lab, arm: W2sArm, seen: Mapping[str, Judged]) -> dict[str, Any]:
    weak, ceiling, own = seen[WEAK.name], seen[CEILING.name], seen[arm.name]
    found = stats.pgr(weak.right, own.right, ceiling.right, min_gap=lab.recipe.min_gap)
    copied = stats.inheritance(own.answers, weak.answers, _gold(lab), ceiling=ceiling.answers)
    facts = [_facts(lab, arm.name, seed) for seed in range(lab.recipe.seeds)]
    told = asdict(found)
    return {
        "name": arm.name,
        "loss": arm.loss,
        "taught": arm.taught,
        "half": arm.half,
        "filter": arm.filter or None,
        "rows": _mean([one["rows"] for one in facts]),
        "gold_rows": max(one.get("gold_rows", 0) for one in facts),
        "labels_right": _mean([one.get("labels_right") for one in facts]),
        "steps": facts[0]["steps"],
        "oracle": arm.is_oracle,
        "stopped_by": arm.stop or None,
        "kept_steps": [one["kept_step"] for one in facts] if arm.stop else None,
        **_told(stats.mean(own.right)),
        "pgr": {key: told[key] for key in _PGR},
        "agreement": {"weak_right": copied.weak_right, "weak_wrong": copied.weak_wrong},
        "wrong_given_weak_wrong": copied.wrong_given_weak_wrong,
        "wrong_given_weak_wrong_minus_ceiling": copied.excess,
        "alarm": copied.alarm,
        "misfit": _misfit(own, weak),
        **_calibration(own),
        "curve": _curve(lab, arm.name, weak),
    }


def _curve(lab: Lab, arm: str, weak: Judged) -> list[dict[str, Any]]:
    """Agreement with the weak model at the steps that were looked at, all seeds together."""
    rows = looked_at(lab)
    truth = np.array([row.response.strip() for row in rows] * lab.recipe.seeds, dtype=object)
    taught = np.concatenate([said.label[: len(rows)] for said in weak.said])
    folders = [lab.run.root / train_folder(arm, seed) for seed in range(lab.recipe.seeds)]
    looks = [json.loads((folder / LOOKS).read_text(encoding="utf-8")) for folder in folders]
    points = []
    for step in sorted(set.intersection(*(set(each) for each in looks)), key=int):
        said = np.array([label for each in looks for label in each[step]], dtype=object)
        found = stats.inheritance(said, taught, truth)
        points.append(
            {"step": int(step), "weak_right": found.weak_right, "weak_wrong": found.weak_wrong}
        )
    return points


def _gold(lab: Lab) -> Texts:
    rows = [row.response.strip() for row in lab.split.test]
    return np.array(rows * lab.recipe.seeds, dtype=object)


def _told(estimate: stats.Estimate) -> dict[str, float | None]:
    return {"mean": estimate.value, "low": estimate.low, "high": estimate.high}


def _facts(lab: Lab, arm: str, seed: int) -> dict[str, Any]:
    return lab.run.store.require(f"{train_folder(arm, seed)}/manifest.json")


def _mean(values: list[Any]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _calibration(one: Judged) -> dict[str, float | None]:
    sure: Floats = np.concatenate([said.confidence for said in one.said])
    right = one.right.ravel()
    sure = np.where(np.isnan(right), np.nan, sure)
    hits = right == 1.0
    return {
        "ece": _finite(stats.ece(sure, hits)),
        "confidence_when_wrong": _finite(stats.confidence_when_wrong(sure, hits)),
    }


def _misfit(own: Judged, weak: Judged) -> float | None:
    """Mean over seeds of KL(student || weak) on the test rows; None where answers are free."""
    found = [
        stats.misfit(mine.log_probs, theirs.log_probs)
        for mine, theirs in zip(own.said, weak.said, strict=True)
        if mine.log_probs is not None and theirs.log_probs is not None
    ]
    return _finite(sum(found) / len(found)) if found else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _alarms(lab: Lab, seen: Mapping[str, Judged], arms: list[dict[str, Any]]) -> list[str]:
    """What a reader must know before believing the table."""
    said = [f"{arm['name']}: {arm['alarm']}" for arm in arms if arm["alarm"]]
    unlike = {arm["pgr"]["why"] for arm in arms if not arm["pgr"]["defined"]}
    said += [f"PGR is undefined: {why}" for why in sorted(unlike)]
    if "gold_half" in seen and _no_better(seen[NAIVE], seen["gold_half"]):
        said.append(
            "the strong model taught the weak model's own rows by people does at least as well as "
            "the student of its labels: labelling more rows with it bought nothing"
        )
    said += [
        f"{arm['name']} is an oracle: the step that is kept was chosen by the true labels of "
        f"{arm['gold_rows']:,} validation rows, which label mode does not have"
        for arm in arms
        if arm["oracle"]
    ]
    lost = {name: int(np.isnan(one.right).any(axis=0).sum()) for name, one in seen.items()}
    said += [f"{name}: {n} test rows could not be judged" for name, n in lost.items() if n]
    return said


def _no_better(one: Judged, other: Judged) -> bool:
    return float(np.nanmean(one.right)) <= float(np.nanmean(other.right))
