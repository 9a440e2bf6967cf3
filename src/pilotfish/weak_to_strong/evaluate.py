"""Evaluate the arms of a weak-to-strong experiment: predictions for the test rows, and items."""

from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from pilotfish.data.run_pool import fingerprint
from pilotfish.evaluation import METRICS, Item, load_results
from pilotfish.evaluation.results import commit_items, item_facts
from pilotfish.experiments.evaluate import evaluated_models, withdraw_results
from pilotfish.records import Floats, Texts
from pilotfish.weak_to_strong.experiment import W2SExperiment
from pilotfish.weak_to_strong.predictions import Predictions

# reasons why a prediction is wrong, and not why there is none
WRONG = ("empty_answer", "answer_cut_off")


@dataclass(frozen=True)
class ArmResults:
    """Predictions of one arm for the n test rows, with s seeds."""

    predictions: list[Predictions]  # one per seed
    correct: Floats  # [s, n] in {0, 1}; nan where a row could not be evaluated

    @property
    def answers(self) -> Texts:
        """[s * n] predictions, seeds in order; None where a row could not be evaluated."""
        found: Texts = np.concatenate([one.label for one in self.predictions])
        found[np.isnan(self.correct.ravel())] = None
        return found


def evaluate_w2s_arm(experiment: W2SExperiment, arm: str, seed: int) -> None:
    """Commit judge/<arm>/seed-<n>.jsonl and whole predictions as .parquet, or reuse intact ones."""
    rows, metric = experiment.split.test, experiment.task.metric
    facts = item_facts(
        arm, seed, METRICS[metric], len(rows), model_digest=experiment.model_digest(arm, seed),
        test_fingerprint=fingerprint(rows),
    ) | {"task": experiment.task.settings}  # fmt: skip
    store = experiment.run.store
    if store.holds(f"judge/{arm}/seed-{seed}.json", facts):
        return
    found = experiment.predict(arm, seed, rows, stage="judge")
    items = []
    for row, label, reason in zip(rows, found.label, found.reason, strict=True):
        expected = row.response.strip()
        if reason and reason not in WRONG:
            items.append(Item(row.id, metric, None, None, expected))
        else:
            items.append(Item(row.id, metric, float(label == expected), label, expected))
    commit_items(store, facts, items, predictions=found.to_table(rows))


def results_by_arm(experiment: W2SExperiment) -> dict[str, ArmResults]:
    """Read the results of every arm, in the order of the experiment.

    Raises:
        DamagedRun: A committed result is not intact.
    """
    store, values, found = experiment.run.store, load_results(experiment.run.store), {}
    for arm in experiment.arms:
        predictions, correct = [], []
        for seed in range(experiment.recipe.seeds):
            path = store.path(f"judge/{arm.name}/seed-{seed}.parquet")
            predictions.append(Predictions.from_table(pq.read_table(path)))
            correct.append([values[arm.name][seed][row.id] for row in experiment.split.test])
        found[arm.name] = ArmResults(predictions, np.array(correct, dtype=np.float64))
    return found


def retire_others(experiment: W2SExperiment) -> None:
    """Withdraw results of arms and seeds that are not part of the experiment any more."""
    seeds = range(experiment.recipe.seeds)
    planned = {(arm.name, seed) for arm in experiment.arms for seed in seeds}
    withdraw_results(
        experiment.run, [one for one in evaluated_models(experiment.run) if one not in planned]
    )
