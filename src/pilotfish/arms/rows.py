"""The rows an arm learns from: a selection, everything, relabelled prompts, trusted rows."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pilotfish.arms.arms import Arm
from pilotfish.config import LabelConfig, TrainConfig
from pilotfish.data import Pool
from pilotfish.data.run_pool import pool_of
from pilotfish.flops import answering_flops, known
from pilotfish.labeling.predict import predict_labels, with_answer
from pilotfish.labeling.settings import LONGEST_ANSWER, token_lengths
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Example
from pilotfish.selection.files import kept_of
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded


@dataclass(frozen=True)
class TrainingPlan:
    """What all arms of one comparison share."""

    strong: str
    strong_digest: str
    config: TrainConfig
    weak: Callable[[int], "Loaded"]  # the weak model of a seed: teacher and relabeller
    trusted: Sequence[Example] = ()
    tuned: bool = False  # whether the weak model was tuned, and so picks anew for every seed
    seed: int = 0  # the recipe's: it shifts what every seed of the comparison draws
    steps: int | None = None

    def stream(self, seed: int) -> int:
        """What one seed of the comparison draws with."""
        return seed_stream(self.seed, seed)


def seed_stream(base: int, seed: int) -> int:
    """What the seed number `seed` of a recipe whose own `seed` is `base` draws with."""
    return 1000 * base + seed


def selection_name_of(run: Run, arm: Arm, seed: int, *, tuned: bool) -> str:
    """The selection an arm trains on; a tuned weak model picked anew for every seed."""
    name = arm.selection.format(seed=seed)
    again = f"{name}-{seed}"
    anew = tuned and seed and name == arm.selection and again in run.section("selections")
    return again if anew else name


def rows_of_arm(
    run: Run, arm: Arm, seed: int, training: TrainingPlan, *, progress: Progress = SILENT
) -> list[Example]:
    """Pool rows first, then the trusted ones; all in memory, the whole pool for arms of `all`."""
    pool = pool_of(run)
    rows: list[Example] = []
    if arm.rows == "selection":
        rows = pool.take(kept_of(run, selection_name_of(run, arm, seed, tuned=training.tuned)))
    elif arm.rows == "all":
        rows = list(pool.examples())
    elif arm.rows == "relabelled":
        rows = relabelled(run, pool, seed if training.tuned else 0, training, progress=progress)
    if not arm.trusted:
        return rows
    # two files may use the same ids; the order of training goes by id
    return rows + [replace(example, id=f"trusted:{example.id}") for example in training.trusted]


def relabelled(
    run: Run, pool: Pool, seed: int, training: TrainingPlan, *, progress: Progress = SILENT
) -> list[Example]:
    """Every pool prompt with the weak model's greedy answer, cached in labels/seed-<n>.json.

    Rows that ask nothing, or to which the model says nothing, are left out.
    """
    weak = training.weak(seed)
    examples = [example for example in pool.examples() if example.turns or example.label]
    rel, manifest = f"labels/seed-{seed}.json", f"labels/seed-{seed}-manifest.json"
    made_from = {"weak": weak.digest, "pool": pool.fingerprint}
    if not run.store.holds(manifest, {"made_from": made_from}):
        progress.note(f"the weak model answers all {len(examples):,} prompts (seed {seed})")
        answers = _answers(run, weak, examples, seed)
        with run.store.attempt(manifest) as attempt:
            attempt.path(rel).write_text(json.dumps(answers), encoding="utf-8")
            attempt.meta = {"made_from": made_from}
    answers = json.loads(run.store.path(rel).read_text(encoding="utf-8"))
    pairs = zip(examples, answers, strict=True)
    return [with_answer(example, answer) for example, answer in pairs if answer]


def _answers(run: Run, weak: "Loaded", examples: Sequence[Example], seed: int) -> list[str]:
    start = time.monotonic()
    lengths = _lengths([example.response for example in examples], weak)
    room = min(lengths[int(0.99 * (len(lengths) - 1))] + 4, LONGEST_ANSWER) if lengths else 1
    how = LabelConfig(kind="hard", classes=[], max_new_tokens=room)
    answers = [str(label) for label in predict_labels(examples, weak, how).labels.label]
    asked = _lengths(["".join(turn.content for turn in e.prompt) for e in examples], weak)
    flops = answering_flops(weak, len(examples), sum(asked) / max(len(asked), 1), room)
    run.cost(
        "label", f"seed {seed}", seconds=time.monotonic() - start, rows=len(examples),
        **known(flops=flops),
    )  # fmt: skip
    return answers


def _lengths(texts: Sequence[str], weak: "Loaded") -> list[int]:
    """Tokens of up to 2,000 of the texts, ascending."""
    return token_lengths(texts[:2000], weak)
