"""From evaluated arms to what a weak-to-strong experiment found: PGR, inheritance, calibration."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish import stats
from pilotfish.records import Floats, Texts
from pilotfish.weak_to_strong.arms import CEILING, NAIVE, WEAK, W2SArm
from pilotfish.weak_to_strong.evaluate import ArmResults, results_by_arm
from pilotfish.weak_to_strong.experiment import W2SExperiment
from pilotfish.weak_to_strong.train import CURVE

RESULT = "weak_to_strong.json"
_PGR = ("raw", "clamped", "low", "high", "boot_low", "boot_high", "defined", "why")


def write_results(experiment: W2SExperiment) -> dict[str, Any]:
    """Commit weak_to_strong.json from evaluated items alone, and return its content."""
    results = results_by_arm(experiment)
    weak, ceiling = results[WEAK.name], results[CEILING.name]
    arms = [_arm(experiment, arm, results) for arm in experiment.arms if not arm.is_bound]
    found = {
        "metric": experiment.task.metric,
        "seeds": experiment.recipe.seeds,
        "items": len(experiment.split.test),
        "steps": experiment.steps,
        "weak": _bound(experiment, WEAK.name, weak),
        "ceiling": _bound(experiment, CEILING.name, ceiling),
        "gap": _interval(stats.difference(ceiling.correct, weak.correct)),
        "arms": arms,
        "alarms": _alarms(results, arms),
    }
    experiment.run.store.write_json(RESULT, found)
    return found


def _bound(experiment: W2SExperiment, name: str, results: ArmResults) -> dict[str, Any]:
    """Floor or ceiling."""
    rows = experiment.manifest(name, 0)["rows"]
    return {**_interval(stats.mean(results.correct)), "rows": rows, **_calibration(results)}


def _arm(
    experiment: W2SExperiment, arm: W2SArm, results: Mapping[str, ArmResults]
) -> dict[str, Any]:
    """An arm between floor and ceiling."""
    weak, ceiling, own = results[WEAK.name], results[CEILING.name], results[arm.name]
    seeds = experiment.recipe.seeds
    pgr = stats.pgr(weak.correct, own.correct, ceiling.correct, min_gap=experiment.recipe.min_gap)
    truth = [row.response.strip() for row in experiment.split.test] * seeds
    gold: Texts = np.array(truth, dtype=object)
    inherited = stats.inheritance(own.answers, weak.answers, gold, ceiling=ceiling.answers)
    models = [experiment.manifest(arm.name, seed) for seed in range(seeds)]
    return {
        "name": arm.name,
        "loss": arm.loss,
        "taught": arm.labels,
        "half": arm.half,
        "filter": arm.filter or None,
        "rows": _mean([model["rows"] for model in models]),
        "gold_rows": max(model.get("gold_rows", 0) for model in models),
        "labels_right": _mean([model.get("labels_right") for model in models]),
        "steps": models[0]["steps"],
        "oracle": arm.is_oracle,
        "stopped_by": arm.stop or None,
        "kept_steps": [model["kept_step"] for model in models] if arm.stop else None,
        **_interval(stats.mean(own.correct)),
        "pgr": {key: getattr(pgr, key) for key in _PGR},
        "agreement": {"weak_right": inherited.weak_right, "weak_wrong": inherited.weak_wrong},
        "wrong_given_weak_wrong": inherited.wrong_given_weak_wrong,
        "wrong_given_weak_wrong_minus_ceiling": inherited.excess,
        "alarm": inherited.alarm,
        "misfit": _misfit(own, weak),
        **_calibration(own),
        "curve": _curve(experiment, arm.name, weak),
    }


def _curve(experiment: W2SExperiment, arm: str, weak: ArmResults) -> list[dict[str, Any]]:
    """Agreement with the weak model on the way to the last step, all seeds together."""
    rows, seeds = experiment.split.curve_rows, range(experiment.recipe.seeds)
    truth = np.array([row.response.strip() for row in rows] * len(seeds), dtype=object)
    weak_label = np.concatenate([one.label[: len(rows)] for one in weak.predictions])
    paths = [Path(experiment.model_folder(arm, seed)) / CURVE for seed in seeds]
    by_seed = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    points = []
    for step in sorted(set.intersection(*(set(each) for each in by_seed)), key=int):
        label = np.array([label for each in by_seed for label in each[step]], dtype=object)
        found = stats.inheritance(label, weak_label, truth)
        points.append(
            {"step": int(step), "weak_right": found.weak_right, "weak_wrong": found.weak_wrong}
        )
    return points


def _interval(estimate: stats.Estimate) -> dict[str, float | None]:
    return {"mean": estimate.value, "low": estimate.low, "high": estimate.high}


def _mean(values: Sequence[Any]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _calibration(results: ArmResults) -> dict[str, float | None]:
    """How well confidence and correctness agree, rows that could not be evaluated aside."""
    confidence: Floats = np.concatenate([one.confidence for one in results.predictions])
    correct = results.correct.ravel()
    confidence = np.where(np.isnan(correct), np.nan, confidence)
    return {
        "ece": _finite(stats.ece(confidence, correct == 1.0)),
        "confidence_when_wrong": _finite(stats.confidence_when_wrong(confidence, correct == 1.0)),
    }


def _misfit(own: ArmResults, weak: ArmResults) -> float | None:
    """Mean over seeds of KL(student || weak) in nats on the test rows; None for free answers."""
    found = [
        stats.misfit(student.log_probs, teacher.log_probs)
        for student, teacher in zip(own.predictions, weak.predictions, strict=True)
        if student.log_probs is not None and teacher.log_probs is not None
    ]
    return _finite(sum(found) / len(found)) if found else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _alarms(results: Mapping[str, ArmResults], arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader must know before believing the table."""
    texts = [f"{arm['name']}: {arm['alarm']}" for arm in arms if arm["alarm"]]
    undefined = {arm["pgr"]["why"] for arm in arms if not arm["pgr"]["defined"]}
    texts += [f"PGR is undefined: {why}" for why in sorted(undefined)]
    means = {name: float(np.nanmean(one.correct)) for name, one in results.items()}
    if "gold_half" in means and means[NAIVE] <= means["gold_half"]:
        texts.append(
            "the strong model taught the weak model's own rows by people does at least as well as "
            "the student of its labels: labelling more rows with it bought nothing"
        )
    texts += [
        f"{arm['name']} is an oracle: the step that is kept was chosen by the true labels of "
        f"{arm['gold_rows']:,} validation rows, which label mode does not have"
        for arm in arms
        if arm["oracle"]
    ]
    lost = {name: int(np.isnan(one.correct).any(axis=0).sum()) for name, one in results.items()}
    texts += [f"{name}: {n} test rows could not be judged" for name, n in lost.items() if n]
    return texts
