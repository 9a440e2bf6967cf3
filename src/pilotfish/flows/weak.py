"""The weak model of a run: loaded as it is, or tuned on the trusted rows first."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.config import TuneConfig
from pilotfish.flows.costs import training_cost
from pilotfish.flows.extras import need_torch
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.records import Example
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded


def weak_folder(seed: int) -> str:
    """Where a tuned weak model lies: `weak` for seed 0, `weak/seed-<n>` for the others."""
    return "weak" if seed == 0 else f"weak/seed-{seed}"


def weak_model(
    run: Run,
    name: str,
    *,
    trusted: Sequence[Example] = (),
    seed: int = 0,
    config: TuneConfig | None = None,
    precision: str = "auto",
    progress: Progress = SILENT,
) -> "Loaded":
    """The model that measures. With trusted rows its digest is that of the tuned weights."""
    need_torch("scoring")
    from pilotfish.models import load

    if not trusted:
        return load(name, precision=precision)
    config = config or TuneConfig()
    folder = weak_folder(seed)
    base = load(name, precision="fp32").digest
    facts = {
        "base": name,
        "base_digest": base,
        "trusted": fingerprint(trusted),
        "seed": seed,
        "config": config.model_dump(mode="json"),
    }
    found = run.store.manifest(f"{folder}/manifest.json")
    if found is None or found.get("made_from") != facts:
        _tune(run, name, trusted, seed=seed, config=config, facts=facts, progress=progress)
    return load(str(run.root / folder), precision=precision)


def _tune(
    run: Run,
    name: str,
    trusted: Sequence[Example],
    *,
    seed: int,
    config: TuneConfig,
    facts: dict[str, object],
    progress: Progress,
) -> None:
    need_torch("tuning the weak model", extra="train")
    from pilotfish.train import tune

    progress.note(f"tuning the weak model on {len(trusted):,} trusted rows (seed {seed})")
    folder = weak_folder(seed)
    start = time.monotonic()
    with run.store.attempt(f"{folder}/manifest.json") as attempt:
        temp: Path = attempt.folder(folder)
        result = tune(trusted, name, seed=seed, folder=temp, config=config)
        attempt.meta = {"made_from": facts, **result}
    run.cost(
        "tune",
        f"weak seed {seed}",
        seconds=time.monotonic() - start,
        rows=len(trusted),
        **training_cost(result),
    )


def fingerprint(examples: Sequence[Example]) -> str:
    """sha256 over ids and contents, in order."""
    lines = "\n".join(f"{example.id}\t{example.digest}" for example in examples)
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()
