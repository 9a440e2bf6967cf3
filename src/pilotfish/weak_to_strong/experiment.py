"""A weak-to-strong experiment: its arms, what they share, and the predictions of their models."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow.parquet as pq

from pilotfish.arms.training_data import seed_stream
from pilotfish.config import LabelConfig, WeakToStrong
from pilotfish.data.run_pool import fingerprint
from pilotfish.experiments.train import train_folder
from pilotfish.records import Example
from pilotfish.run_context import RunContext
from pilotfish.weak_to_strong.split import Split
from pilotfish.weak_to_strong.tasks import Predictions, Task

LabelSource = Literal["gold", "weak", "own"]  # true labels; the weak model; the naive student


@dataclass(frozen=True)
class W2SArm:
    """One arm: which model learns which rows, with whose labels.

    Attributes:
        name: Name in reports and folders.
        loss: LOSS of its training.
        labels: Who labels the rows.
        half: Which half of the rows it learns.
        model: Which model is trained.
        filter: METHOD that keeps some of the labelled rows; "": all are kept.
        stop: Whose validation labels choose the step that is kept; "": the last step is kept.
    """

    name: str
    loss: str
    labels: LabelSource = "weak"
    half: Literal["student", "weak"] = "student"
    model: Literal["strong", "weak"] = "strong"
    filter: str = ""
    stop: Literal["", "weak", "gold"] = ""

    @property
    def is_oracle(self) -> bool:
        """Whether its step is chosen by true labels, which label mode does not have."""
        return self.stop == "gold"

    @property
    def is_bound(self) -> bool:
        """Whether it is the floor or the ceiling of PGR."""
        return self in (WEAK, CEILING)

    @property
    def teacher(self) -> str:
        """The arm whose model labels the rows; "" for true labels."""
        return {"gold": "", "weak": WEAK.name, "own": NAIVE}[self.labels]


WEAK = W2SArm("weak", "lm", "gold", "weak", "weak")
CEILING = W2SArm("ceiling", "lm", "gold")
NAIVE = "naive"


def w2s_arms(recipe: WeakToStrong, default_loss: str) -> list[W2SArm]:
    """List the arms of a recipe, each after those whose models it needs.

    Args:
        recipe: The settings.
        default_loss: LOSS of students if the recipe names none.

    Raises:
        UsageError: A loss or a filter does not exist.
    """
    from pilotfish.labeling.filters import make_filter
    from pilotfish.losses import make_loss

    loss = recipe.loss or default_loss
    arms = [WEAK, CEILING, W2SArm(NAIVE, loss)]
    arms += [W2SArm(name, text) for name, text in recipe.losses.items()]
    arms += [W2SArm(name, loss, filter=text) for name, text in recipe.filters.items()]
    if "honest" in recipe.stopping:
        arms.append(W2SArm("stop_honest", loss, stop="weak"))
    if "oracle" in recipe.stopping:
        arms.append(W2SArm("stop_oracle", loss, stop="gold"))
    if "self_training" in recipe.controls:
        arms.append(W2SArm("self_training", loss, "own"))
    if "gold_half" in recipe.controls:
        arms.append(W2SArm("gold_half", "lm", "gold", "weak"))
    for arm in arms:
        make_loss(arm.loss)
        if arm.filter:
            make_filter(arm.filter)
    return arms


@dataclass(frozen=True)
class W2SExperiment:
    """What all arms and seeds share.

    Attributes:
        ctx: The run folder, whose lock is held.
        recipe: The settings.
        split: The rows.
        task: Choose a class, or write an answer.
        arms: The arms, in the order of training.
        steps: Optimizer steps of every strong arm.
        digests: Digests of the untrained models, "weak" and "strong".
    """

    ctx: RunContext
    recipe: WeakToStrong
    split: Split
    task: Task
    arms: Sequence[W2SArm]
    steps: int
    digests: Mapping[str, str]

    @property
    def label_kind(self) -> str:
        """Kind of the labels that students learn: soft, hard or consistency."""
        return self.recipe.labels.kind or self.task.kinds[0]

    def random_seed(self, seed: int) -> int:
        """Return the seed of all random draws of one seed of the experiment."""
        return seed_stream(self.recipe.seed, seed)

    def model_folder(self, arm: str, seed: int) -> str:
        """Return the folder of a trained model."""
        return str(self.ctx.run.root / train_folder(arm, seed))

    def manifest(self, arm: str, seed: int) -> dict[str, Any]:
        """Read the manifest of a trained model.

        Raises:
            DamagedRun: The model or its manifest is not intact.
        """
        return self.ctx.store.require(f"{train_folder(arm, seed)}/manifest.json")

    def model_digest(self, arm: str, seed: int) -> str:
        """Read the digest of a trained model from its manifest."""
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
            arm: Arm of the model.
            seed: Number of the seed.
            rows: The rows; their own answers are not shown to the model.
            stage: "label" or "judge": the stage of the cost.
            states: Whether hidden states are needed (classifiers only).
            votes: How answers are sampled to take the most frequent one; None: greedy.
        """
        run, progress = self.ctx.run, self.ctx.progress
        name = f"{stage} {len(rows):,} rows by {arm} seed {seed}"
        progress.step(name, 0, 1)
        start = time.monotonic()
        model = self.task.load(self.model_folder(arm, seed))
        found = self.task.predict(model, rows, states=states, votes=votes)
        seconds, times = time.monotonic() - start, votes.samples if votes else 1
        cost = {key: times * spent for key, spent in self.task.cost(model, rows).items()}
        run.cost(stage, f"{arm} seed {seed}", seconds=seconds, rows=len(rows), **cost)
        progress.step(name, 1, 1)
        return found

    def cached_predictions(
        self, arm: str, seed: int, part: Literal["student", "validation"]
    ) -> Predictions:
        """Predict a part of the rows for labelling, or read labels/<arm>/seed-<n>-<part>.parquet.

        Answers are greedy, or voted if the recipe wants labels by consistency.

        Args:
            arm: Arm of the model.
            seed: Number of the seed.
            part: Which rows.
        """
        rows, labels = getattr(self.split, part), self.recipe.labels
        votes = None
        if self.label_kind == "consistency":
            votes = LabelConfig(
                kind="consistency",
                samples=labels.samples,
                temperature=labels.temperature,
                seed=self.random_seed(seed),
            )
        # filters of classes compare the weak model's hidden states
        states = bool(self.recipe.filters) and bool(self.task.classes) and arm == WEAK.name
        facts = {
            "model_digest": self.model_digest(arm, seed),
            "rows": fingerprint(rows),
            "states": states,
            "task": self.task.settings,
            "votes": [votes.samples, votes.temperature, votes.seed] if votes else None,
        }
        name, store = f"labels/{arm}/seed-{seed}-{part}", self.ctx.store
        if not store.holds(f"{name}.json", facts):
            found = self.predict(arm, seed, rows, stage="label", states=states, votes=votes)
            with store.attempt(f"{name}.json") as attempt:
                pq.write_table(found.to_table(rows), attempt.path(f"{name}.parquet"))
                attempt.meta = {**facts, "arm": arm, "seed": seed, "part": part}
        return Predictions.from_table(pq.read_table(store.path(f"{name}.parquet")))
