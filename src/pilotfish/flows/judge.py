"""judge: every arm and seed answers the same held-out rows; one line per item."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pilotfish.errors import UsageError
from pilotfish.flows.arms import ARMS
from pilotfish.flows.extras import need_torch
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.flows.reading import Source
from pilotfish.flows.selection import freshen
from pilotfish.flows.weak import fingerprint
from pilotfish.pool import read_rows
from pilotfish.records import Example
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded


def keep_test(run: Run, examples: Sequence[Example], facts: dict[str, Any], *, force: bool) -> None:
    """Store the test rows with the run, so that a later `judge RUN` asks the same questions."""
    section = {**facts, "rows": len(examples), "fingerprint": fingerprint(examples)}
    run.fix("test", section, force=force)
    with run.store.attempt("test/manifest.json") as attempt:
        lines = "".join(f"{example.raw}\n" for example in examples)
        attempt.path("test/items.jsonl").write_text(lines, encoding="utf-8")
        attempt.meta = {"rows": len(examples)}


def test_rows(run: Run, source: Source) -> list[Example]:
    """The run's stored test rows."""
    if run.store.read_json("test/manifest.json") is None:
        raise UsageError(
            f"{run.root} holds no test rows yet", hint=f"pilotfish judge {run.root} --test DATA"
        )
    run.store.require("test/manifest.json")
    path = str(run.store.path("test/items.jsonl"))
    return list(read_rows(path, mapping=source.mapping, max_bad_rate=0.0).examples)


def judge_arm(
    run: Run,
    arm: str,
    seed: int,
    loaded: "Loaded",
    examples: Sequence[Example],
    metric: str,
    *,
    progress: Progress = SILENT,
) -> None:
    """Judge one model into judge/<arm>/seed-<n>.jsonl, or reuse intact results."""
    from pilotfish.judge import METRICS
    from pilotfish.judge.files import judge_model

    progress.step(f"judge {arm} seed {seed}", 0, 1)
    start = time.monotonic()
    fresh = judge_model(
        run.store, loaded, examples, arm=arm, seed=seed, metric=METRICS[metric],
        test_fingerprint=fingerprint(examples),
    )  # fmt: skip
    freshen(run, f"judge/{arm}/seed-{seed}")
    if fresh:
        run.cost(
            "judge", f"{arm} seed {seed}", seconds=time.monotonic() - start, rows=len(examples)
        )
    progress.step(f"judge {arm} seed {seed}", 1, 1)


def trained_models(run: Run, arms: Sequence[str] | None = None) -> list[tuple[str, int]]:
    """(arm, seed) of every committed model under train/, in order."""
    found = []
    for manifest in sorted((run.root / "train").glob("*/seed-*/manifest.json")):
        arm, seed = manifest.parts[-3], int(manifest.parts[-2].removeprefix("seed-"))
        if arms is None or arm in arms:
            found.append((arm, seed))
    order = list(ARMS)
    return sorted(found, key=lambda pair: (order.index(pair[0]) if pair[0] in order else 99, pair))


def judge(
    run: Run,
    examples: Sequence[Example],
    metric: str,
    *,
    arms: Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> None:
    """Judge every trained model of a run (or those named)."""
    need_torch("judging")
    from pilotfish.models import load

    models = trained_models(run, arms)
    if not models:
        raise UsageError(
            f"{run.root} holds no trained model to judge",
            hint=f"pilotfish train {run.root} --strong MODEL",
        )
    for arm, seed in models:
        rel = f"train/{arm}/seed-{seed}"
        run.store.require(f"{rel}/manifest.json")
        judge_arm(run, arm, seed, load(str(run.root / rel)), examples, metric, progress=progress)
