"""One weak-to-strong experiment: what all arms share, and predictions of its models."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow.parquet as pq

from pilotfish.arms.rows import seed_stream
from pilotfish.config import LabelConfig, WeakToStrong
from pilotfish.data.run_pool import fingerprint
from pilotfish.experiments.train import train_folder
from pilotfish.progress import Progress
from pilotfish.records import Example
from pilotfish.store import Run
from pilotfish.weak_to_strong.arms import WEAK, W2SArm
from pilotfish.weak_to_strong.predictions import Predictions
from pilotfish.weak_to_strong.split import Split
from pilotfish.weak_to_strong.tasks import Task


@dataclass(frozen=True)
class W2SExperiment:
    """Everything that stays the same while arms and seeds go by."""

    run: Run
    recipe: WeakToStrong
    split: Split
    task: Task
    arms: Sequence[W2SArm]  # in the order of training
    steps: int  # optimizer steps of every strong arm
    digests: Mapping[str, str]  # of the untrained models, "weak" and "strong"
    progress: Progress

    @property
    def label_kind(self) -> str:
        """Kind of the labels that students learn: soft, hard or consistency."""
        return self.recipe.labels.kind or self.task.kinds[0]

    def random_seed(self, seed: int) -> int:
        """Seed of everything that one seed of the experiment draws."""
        return seed_stream(self.recipe.seed, seed)

    def model_folder(self, arm: str, seed: int) -> str:
        """Folder of a trained model."""
        return str(self.run.root / train_folder(arm, seed))

    def manifest(self, arm: str, seed: int) -> dict[str, Any]:
        """Manifest of a trained model. Raises DamagedRun where model or manifest are not intact."""
        return self.run.store.require(f"{train_folder(arm, seed)}/manifest.json")

    def model_digest(self, arm: str, seed: int) -> str:
        """Digest of a trained model, from its manifest."""
        return str(self.manifest(arm, seed)["model_digest"])

    def predict(
        self,
        arm: str,
        seed: int,
        rows: Sequence[Example],
        *,
        stage: str,
        states: bool = False,
        votes: LabelConfig | None = None,
    ) -> Predictions:
        """Predict rows with the model of an arm, and charge the cost.

        Args:
            arm: Whose model predicts.
            seed: Number of the seed.
            rows: The rows; their own answers are not shown to the model.
            stage: "label" or "judge": what the cost is charged to.
            states: Whether hidden states are wanted (classifiers only).
            votes: How answers are sampled, where the most frequent one counts; None: greedy.
        """
        name = f"{stage} {len(rows):,} rows by {arm} seed {seed}"
        self.progress.step(name, 0, 1)
        start = time.monotonic()
        model = self.task.load(self.model_folder(arm, seed))
        found = self.task.predict(model, rows, states=states, votes=votes)
        seconds, times = time.monotonic() - start, votes.samples if votes else 1
        cost = {key: times * spent for key, spent in self.task.cost(model, rows).items()}
        self.run.cost(stage, f"{arm} seed {seed}", seconds=seconds, rows=len(rows), **cost)
        self.progress.step(name, 1, 1)
        return found

    def cached_predictions(
        self, arm: str, seed: int, part: Literal["student", "validation"]
    ) -> Predictions:
        """Predict a part of the split for labelling, or read labels/<arm>/seed-<n>-<part>.parquet.

        Greedy, or voted where the recipe wants labels by consistency.
        """
        rows, labels = getattr(self.split, part), self.recipe.labels
        votes = None
        if self.label_kind == "consistency":
            votes = LabelConfig(
                kind="consistency", samples=labels.samples, temperature=labels.temperature,
                seed=self.random_seed(seed),
            )  # fmt: skip
        # filters of classes compare the weak model's hidden states
        states = bool(self.recipe.filters) and bool(self.task.classes) and arm == WEAK.name
        facts = {
            "model_digest": self.model_digest(arm, seed),
            "rows": fingerprint(rows),
            "states": states,
            "task": self.task.settings,
            "votes": [votes.samples, votes.temperature, votes.seed] if votes else None,
        }
        name, store = f"labels/{arm}/seed-{seed}-{part}", self.run.store
        if not store.holds(f"{name}.json", facts):
            found = self.predict(arm, seed, rows, stage="label", states=states, votes=votes)
            with store.attempt(f"{name}.json") as attempt:
                pq.write_table(found.to_table(rows), attempt.path(f"{name}.parquet"))
                attempt.meta = {**facts, "arm": arm, "seed": seed, "part": part}
        return Predictions.from_table(pq.read_table(store.path(f"{name}.parquet")))
