"""The rows an arm learns from: a selection, everything, relabelled prompts, trusted rows."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pilotfish.config import TrainConfig, TuneConfig
from pilotfish.errors import UsageError
from pilotfish.flows.arms import Arm
from pilotfish.flows.costs import answering_flops, known
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.flows.selection import kept_of
from pilotfish.flows.weak import weak_model
from pilotfish.pool import Pool
from pilotfish.records import Example, Turn
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded

LONGEST_ANSWER = 256  # tokens the weak model may spend on one answer


@dataclass(frozen=True)
class Training:
    """What all arms of one comparison share."""

    strong: str
    weak: str
    config: TrainConfig
    trusted: Sequence[Example] = ()
    tune: TuneConfig | None = None
    precision: str = "auto"
    steps: int | None = None
    rates: dict[str, float] = field(default_factory=dict)  # arm -> learning rate chosen

    @property
    def tuned(self) -> bool:
        """Whether the weak model is tuned on trusted rows, anew for every seed."""
        return bool(self.trusted)


def selection_of(arm: Arm, seed: int, *, tuned: bool) -> str:
    """The selection an arm trains on; a tuned weak model picks anew for every seed."""
    name = arm.selection.format(seed=seed)
    return f"{name}-{seed}" if tuned and name in ("selected", "longest") and seed else name


def rows_of(
    run: Run, arm: Arm, seed: int, training: Training, *, progress: Progress = SILENT
) -> list[Example]:
    """Pool rows first, then the trusted ones."""
    pool = pool_of(run)
    rows: list[Example] = []
    if arm.rows == "selection":
        rows = pool.take(kept_of(run, selection_of(arm, seed, tuned=training.tuned)))
    elif arm.rows == "all":
        rows = list(pool.examples())
    elif arm.rows == "relabelled":
        rows = relabelled(run, pool, seed if training.tuned else 0, training, progress=progress)
    if not arm.trusted:
        return rows
    # two files may use the same ids; the order of training goes by id
    return rows + [replace(example, id=f"trusted:{example.id}") for example in training.trusted]


def pool_of(run: Run) -> Pool:
    """The run's pool; a run without one names the missing step."""
    if run.store.read_json("pool/manifest.json") is None:
        raise UsageError(
            f"{run.root} holds no pool yet",
            hint=f"pilotfish score DATA --weak MODEL --method METHOD --out {run.root}",
        )
    return Pool.open(run.store)


def the_weak(run: Run, training: Training, seed: int) -> "Loaded":
    """The weak model of one seed: tuned where there are trusted rows."""
    return weak_model(
        run, training.weak, trusted=training.trusted, seed=seed if training.tuned else 0,
        config=training.tune, precision=training.precision,
    )  # fmt: skip


def relabelled(
    run: Run, pool: Pool, seed: int, training: Training, *, progress: Progress = SILENT
) -> list[Example]:
    """Every pool prompt with the weak model's greedy answer, cached in labels/seed-<n>.json."""
    weak = the_weak(run, training, seed)
    examples = [example for example in pool.examples() if example.turns or example.label]
    rel = f"labels/seed-{seed}.json"
    facts = {"weak": weak.digest, "pool": pool.fingerprint}
    found = run.store.manifest(f"labels/seed-{seed}-manifest.json")
    if found is None or found.get("made_from") != facts:
        progress.note(f"the weak model answers all {len(examples):,} prompts (seed {seed})")
        answers = _answers(run, weak, examples, seed)
        with run.store.attempt(f"labels/seed-{seed}-manifest.json") as attempt:
            attempt.path(rel).write_text(json.dumps(answers, ensure_ascii=False), encoding="utf-8")
            attempt.meta = {"made_from": facts}
    answers = json.loads(run.store.path(rel).read_text(encoding="utf-8"))
    pairs = zip(examples, answers, strict=True)
    return [_answered(example, answer) for example, answer in pairs if answer]


def _answers(run: Run, weak: "Loaded", examples: Sequence[Example], seed: int) -> list[str]:
    from pilotfish.engine import generate

    start = time.monotonic()
    lengths = _lengths([example.response for example in examples], weak)
    room = min(lengths[int(0.99 * (len(lengths) - 1))] + 4, LONGEST_ANSWER)
    answers = generate(weak, examples, max_new_tokens=room)
    asked = _lengths(["".join(turn.content for turn in e.prompt) for e in examples], weak)
    flops = answering_flops(weak, len(examples), sum(asked) / max(len(asked), 1), room)
    run.cost(
        "label", f"seed {seed}", seconds=time.monotonic() - start, rows=len(examples),
        **known(flops=flops),
    )  # fmt: skip
    return answers


def _lengths(texts: Sequence[str], weak: "Loaded") -> list[int]:
    """Tokens of up to 2,000 of the texts, ascending."""
    found = weak.tokenizer(list(texts[:2000]), add_special_tokens=False)["input_ids"]
    return sorted(len(ids) for ids in found)


def _answered(example: Example, answer: str) -> Example:
    if example.turns:
        return replace(example, turns=(*example.prompt, Turn("assistant", answer)))
    return replace(example, label=answer.strip())
