"""What one weak-to-strong experiment holds fixed, and what its models said, kept on disk."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.arms.rows import seed_stream
from pilotfish.config import WeakToStrong
from pilotfish.data.run_pool import fingerprint
from pilotfish.experiments.train import train_folder
from pilotfish.labeling.settings import LabelConfig
from pilotfish.progress import Progress
from pilotfish.records import Example
from pilotfish.store import Run
from pilotfish.weak_to_strong.arms import W2sArm
from pilotfish.weak_to_strong.predictions import Said
from pilotfish.weak_to_strong.split import Split
from pilotfish.weak_to_strong.tasks import Task


@dataclass(frozen=True)
class Lab:
    """One experiment; arms and seeds go by."""

    run: Run
    recipe: WeakToStrong
    split: Split
    task: Task
    arms: Sequence[W2sArm]
    steps: int  # of every strong arm
    digests: Mapping[str, str]  # of the models as they came: weak, strong
    progress: Progress

    def stream(self, seed: int) -> int:
        """What one seed of the experiment draws with."""
        return seed_stream(self.recipe.seed, seed)

    @property
    def kind(self) -> str:
        """Of the labels that students learn."""
        return self.recipe.labels.kind or self.task.kinds[0]

    def votes(self, seed: int) -> LabelConfig | None:
        """How answers are sampled, where labels are those that most of them agree on."""
        how = self.recipe.labels
        if self.kind != "consistency":
            return None
        return LabelConfig(
            self.kind, samples=how.samples, temperature=how.temperature, seed=self.stream(seed)
        )

    def model(self, arm: str, seed: int) -> str:
        """The folder of a trained model."""
        return str(self.run.root / train_folder(arm, seed))


def digest_of(lab: Lab, arm: str, seed: int) -> str:
    """A trained model's digest, from the manifest written beside it."""
    found = lab.run.store.require(f"{train_folder(arm, seed)}/manifest.json")
    return str(found["model_digest"])


def said_by(
    lab: Lab, arm: str, seed: int, rows: Sequence[Example], part: str, *, states: bool = False
) -> Said:
    """What an arm's model says to a part of the rows: from labels/<arm>/, or asked now."""
    rel = f"labels/{arm}/seed-{seed}-{part}"
    votes = lab.votes(seed)
    facts = {
        "model_digest": digest_of(lab, arm, seed), "rows": fingerprint(rows), "states": states,
        "task": lab.task.described,
        "votes": [votes.samples, votes.temperature, votes.seed] if votes else None,
    }  # fmt: skip
    found = lab.run.store.manifest(f"{rel}.json")
    if found is None or {**found, **facts} != found:
        said = asked(lab, arm, seed, rows, stage="label", states=states, votes=votes)
        with lab.run.store.attempt(f"{rel}.json") as attempt:
            pq.write_table(table_of(rows, said), attempt.path(f"{rel}.parquet"))
            attempt.meta = {**facts, "arm": arm, "seed": seed, "part": part}
    return read_said(lab.run, f"{rel}.parquet")


def asked(
    lab: Lab,
    arm: str,
    seed: int,
    rows: Sequence[Example],
    *,
    stage: str,
    states: bool = False,
    votes: LabelConfig | None = None,
) -> Said:
    """Ask the model of an arm now, and charge for it."""
    lab.progress.step(f"{stage} {len(rows):,} rows by {arm} seed {seed}", 0, 1)
    start = time.monotonic()
    model = lab.task.open(lab.model(arm, seed))
    said = lab.task.ask(model, rows, states=states, votes=votes)
    seconds, times = time.monotonic() - start, votes.samples if votes else 1
    price = {name: times * spent for name, spent in lab.task.price(model, rows).items()}
    lab.run.cost(stage, f"{arm} seed {seed}", seconds=seconds, rows=len(rows), **price)
    lab.progress.step(f"{stage} {len(rows):,} rows by {arm} seed {seed}", 1, 1)
    return said


def table_of(rows: Sequence[Example], said: Said) -> pa.Table:
    """Answers as columns: id, label, reason, confidence, and lists where there are any."""
    columns: dict[str, Any] = {
        "id": pa.array([row.id for row in rows], pa.string()),
        "label": pa.array([str(label) for label in said.label], pa.string()),
        "reason": pa.array([str(reason) for reason in said.reason], pa.string()),
        "confidence": pa.array(said.confidence, pa.float64()),
    }
    for name, kind in (("log_probs", pa.float64()), ("states", pa.float64())):
        values = getattr(said, name)
        if values is not None:
            flat = pa.array(np.asarray(values, dtype=np.float64).ravel(), kind)
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.table(columns)


def read_said(run: Run, rel: str) -> Said:
    """The other way round."""
    found = pq.read_table(run.store.path(rel))

    def column(name: str) -> Any:
        return np.array(found.column(name).to_pylist(), dtype=object)

    def matrix(name: str) -> Any:
        if name not in found.column_names:
            return None
        flat = found.column(name).combine_chunks()
        flat = flat.chunk(0) if isinstance(flat, pa.ChunkedArray) else flat
        return flat.flatten().to_numpy(zero_copy_only=False).reshape(len(found), -1)

    confidence = found.column("confidence").to_numpy()
    return Said(
        column("label"), column("reason"), confidence, matrix("log_probs"), matrix("states")
    )
