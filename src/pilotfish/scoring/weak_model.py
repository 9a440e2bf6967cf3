"""The weak model of a run: loaded as it is, or tuned on the trusted rows first."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.config import WeakTrainConfig
from pilotfish.data.run_pool import fingerprint
from pilotfish.errors import UsageError
from pilotfish.extras import need_torch
from pilotfish.flops import training_cost
from pilotfish.progress import SILENT, Progress
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
    stream: int | None = None,
    config: WeakTrainConfig | None = None,
    precision: str = "auto",
    force: bool = False,
    progress: Progress = SILENT,
) -> "Loaded":
    """The model that measures. With trusted rows its digest is that of the tuned weights.

    seed: which of the run's weak models; stream: what its tuning draws with (None: the seed).
    UsageError, naming what changed, where the run's weak model was tuned otherwise (unless
    `force`): its scores and what was built on them would lose the model they came from.
    """
    need_torch("scoring")
    from pilotfish.models import identify, load

    if not trusted:
        return load(name, precision=precision)
    config, folder = config or WeakTrainConfig(), weak_folder(seed)
    made_from = {
        "model": identify(name),
        "trusted": fingerprint(trusted),
        "seed": seed if stream is None else stream,
        "config": config.model_dump(mode="json"),
    }
    found = run.store.manifest(f"{folder}/manifest.json")
    if found is None or _changed(run, folder, found, made_from, force=force):
        _tune(run, name, trusted, folder=folder, made_from=made_from, progress=progress)
    return replace(load(str(run.root / folder), precision=precision), name=name)


def weak_of_run(run: Run, seed: int) -> "Loaded":
    """The weak model a run was scored with, as it stands: the one of a seed where each has one."""
    need_torch("reading with the weak model")
    from pilotfish.models import load

    facts = run.section("weak")
    if not facts:
        raise UsageError(
            f"{run.root} was not scored by a weak model yet",
            hint=f"pilotfish score {run.root} --weak MODEL --method METHOD, or name it with --weak",
        )
    # what answers or is looked at row by row gains nothing from int8
    precision = "bf16" if facts["precision"] == "bf16" else "fp32"
    if not facts.get("trusted"):
        return load(facts["name"], precision=precision)
    folders = [weak_folder(each) for each in (seed, 0)]
    tuned = [each for each in folders if run.store.read_json(f"{each}/manifest.json") is not None]
    run.store.require(f"{[*tuned, 'weak'][0]}/manifest.json")
    return replace(load(str(run.root / tuned[0]), precision=precision), name=facts["name"])


def weak_by_digest(run: Run, digest: str, *, precision: str) -> "Loaded":
    """The very model that a score was measured with, in any precision.

    UsageError where it is no longer there: deleted, or changed since.
    """
    need_torch("re-measuring")
    from pilotfish.models import identify, load

    tuned = sorted(run.store.path("weak").glob("**/config.json"))
    named = [run.section(section).get("name", "") for section in ("weak", "cheap")]
    for path in [*(str(each.parent) for each in tuned), *named]:
        with suppress(UsageError):
            if path and identify(path) == digest:
                return load(path, precision=precision)
    raise UsageError(
        f"the weak model that {run.root} was scored with is not there any more, or has changed",
        hint="put it back where it was, or score again with --precision fp32",
    )


def _changed(
    run: Run, folder: str, found: Mapping[str, Any], made_from: Mapping[str, Any], *, force: bool
) -> bool:
    old = found.get("made_from", {})
    changed = sorted(key for key in {*old, *made_from} if old.get(key) != made_from.get(key))
    if changed and not force:
        raise UsageError(
            f"{run.root / folder} was tuned otherwise: another {', '.join(changed)}",
            hint="choose another --out, or pass --force to tune it anew and redo what it measured",
        )
    return bool(changed)


def _tune(
    run: Run,
    name: str,
    trusted: Sequence[Example],
    *,
    folder: str,
    made_from: Mapping[str, Any],
    progress: Progress,
) -> None:
    need_torch("tuning the weak model", extra="train")
    from pilotfish.training.tune import tune

    seed = made_from["seed"]
    progress.note(f"tuning the weak model on {len(trusted):,} trusted rows (seed {seed})")
    start = time.monotonic()
    with run.store.attempt(f"{folder}/manifest.json") as attempt:
        temp: Path = attempt.folder(folder)
        config = WeakTrainConfig.model_validate(made_from["config"])
        result = tune(trusted, name, seed=seed, folder=temp, config=config)
        attempt.meta = {"made_from": made_from, **result}
    run.cost(
        "tune", f"weak seed {seed}", seconds=time.monotonic() - start, rows=len(trusted),
        **training_cost(result),
    )  # fmt: skip
