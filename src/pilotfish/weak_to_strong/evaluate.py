"""Judging the arms of a weak-to-strong experiment: answers to the test rows, one line per item."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from pilotfish.data.run_pool import fingerprint
from pilotfish.evaluation import Item
from pilotfish.experiments.evaluate import evaluated_models, withdraw_results
from pilotfish.records import Example, Floats, Texts
from pilotfish.weak_to_strong.experiment import Lab, asked, digest_of, read_said, table_of
from pilotfish.weak_to_strong.predictions import Said


def judge_w2s_arm(lab: Lab, arm: str, seed: int) -> None:
    """Commit judge/<arm>/seed-<n>.jsonl and, beside it, the whole answers; or reuse intact ones."""
    rel, test = f"judge/{arm}/seed-{seed}", lab.split.test
    facts = {
        "arm": arm, "seed": seed, "metric": lab.task.metric, "higher_is_better": True,
        "items": len(test), "model_digest": digest_of(lab, arm, seed),
        "test_fingerprint": fingerprint(test), "task": lab.task.described,
    }  # fmt: skip
    found = lab.run.store.manifest(f"{rel}.json")
    if found is not None and {**found, **facts} == found:
        return
    said = asked(lab, arm, seed, test, stage="judge")
    items = [
        item_of(row, label, reason, lab.task.metric)
        for row, label, reason in zip(test, said.label, said.reason, strict=True)
    ]
    with lab.run.store.attempt(f"{rel}.json") as attempt:
        lines = "".join(item.line() + "\n" for item in items)
        attempt.path(f"{rel}.jsonl").write_text(lines, encoding="utf-8")
        pq.write_table(table_of(test, said), attempt.path(f"{rel}.parquet"))
        attempt.meta = {**facts, "unscorable": sum(item.value is None for item in items)}


def item_of(row: Example, label: str, reason: str, metric: str) -> Item:
    """1 where the answer is the expected one; an empty answer is wrong, not unjudged."""
    expected = row.response.strip()
    if reason and reason not in ("empty_answer", "answer_cut_off"):
        return Item(row.id, metric, None, None, expected)
    return Item(row.id, metric, float(label == expected), label, expected)


@dataclass(frozen=True)
class Judged:
    """What one arm said to the test rows, seeds and items in order."""

    said: list[Said]  # per seed
    right: Floats  # [s, n] in {0, 1}, nan where a row could not be judged

    @property
    def answers(self) -> Texts:
        """[s * n] answers, None where there was none that could be judged."""
        found: Texts = np.concatenate([one.label for one in self.said])
        found[np.isnan(self.right.ravel())] = None
        return found


def judged(lab: Lab) -> Mapping[str, Judged]:
    """Every arm, in the order of the experiment."""
    found = {}
    for arm in lab.arms:
        said, right = [], []
        for seed in range(lab.recipe.seeds):
            rel = f"judge/{arm.name}/seed-{seed}"
            lab.run.store.require(f"{rel}.json")
            one = read_said(lab.run, f"{rel}.parquet")
            items = [
                item_of(row, label, reason, lab.task.metric).value
                for row, label, reason in zip(lab.split.test, one.label, one.reason, strict=True)
            ]
            said.append(one)
            right.append([np.nan if value is None else value for value in items])
        found[arm.name] = Judged(said, np.array(right, dtype=np.float64))
    return found


def retire_others(lab: Lab) -> None:
    """Withdraw judged results that are no part of this experiment any more."""
    planned = {(arm.name, seed) for arm in lab.arms for seed in range(lab.recipe.seeds)}
    withdraw_results(
        lab.run, [model for model in evaluated_models(lab.run) if model not in planned]
    )
