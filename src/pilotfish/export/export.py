"""`export`: write the rows of arms, in the order of training, for a trainer elsewhere."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pilotfish.arms.arms import ARMS, Arm, arms_for
from pilotfish.arms.training_data import seed_stream, selection_name_of
from pilotfish.data import overlap_keys
from pilotfish.data.held_out import stored_test_rows
from pilotfish.data.run_pool import fingerprint, open_run, pool_of, read_extra_rows, source_of_run
from pilotfish.data_order import row_name, shuffled
from pilotfish.errors import UsageError, unknown_name
from pilotfish.evaluation.items import item_hash
from pilotfish.export import TARGETS
from pilotfish.export.base import Job, TrainSettings, Written
from pilotfish.export.readme import readme
from pilotfish.export.train_settings import seeds_of, train_settings_of
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Example
from pilotfish.run_context import RunContext
from pilotfish.selection.controls import Control, draw_control
from pilotfish.selection.files import kept_of
from pilotfish.store import Run, run_lock
from pilotfish.store.fs_ops import disk_errors

EVIDENCE, README, TEST = "evidence.json", "README.md", "test.jsonl"
_NUMBERED = re.compile(r"(.+)-(\d+)")
_SHARED_SETTINGS = {
    "per_device_train_batch_size", "gradient_accumulation_steps", "lr_scheduler_type",
    "weight_decay", "max_grad_norm", "max_length", "lora_r", "lora_alpha", "lora_dropout",
    "lora_target_modules", "bf16",
}  # fmt: skip


@dataclass(frozen=True)
class ExportOptions:
    """Which arms are exported, and with which settings.

    Attributes:
        arms: Names of arms or selections, or of one seed's arm (`random-0`).
        seeds: Seeds of arms named without one; (): every seed that the run compares.
        strong: The model to be trained; None: the run's.
        overrides: `train.NAME=VALUE` texts for the settings that are written.
    """

    arms: Sequence[str] = ("selected",)
    seeds: Sequence[int] = ()
    strong: str | None = None
    overrides: Sequence[str] = ()


def export(
    root: str,
    to: str,
    options: ExportOptions | None = None,
    *,
    folder: str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Write arms of a run for a trainer. Controls that were not drawn yet are drawn.

    Args:
        root: The run folder.
        to: A name from TARGETS.
        options: Which arms, seeds and settings; default: the selected arm.
        folder: Where to write; default: RUN/exports/<to>.
        force: Replace an earlier export in that folder.
        progress: Receives notes.

    Returns:
        The content of evidence.json, and `folder`.

    Raises:
        UsageError: The run has no selection, an arm, target or seed is unknown, or the folder
            exists.
    """
    options = options or ExportOptions()
    if to not in TARGETS:
        raise unknown_name("target", to, TARGETS)
    run = open_run(root)
    target = Path(folder) if folder else run.root / "exports" / to
    _check_target_folder(target, force=force)
    wanted = _wanted_arms(run, options.arms, options.seeds or seeds_of(run))
    settings = train_settings_of(run, progress, strong=options.strong, overrides=options.overrides)
    test = stored_test_rows(run)
    trusted: Sequence[Example] = ()
    if any(arm.trusted for arm, _ in wanted):
        data = str(run.section("weak")["trusted"])
        trusted = read_extra_rows(source_of_run(run), data, exclude=overlap_keys(test)).examples
    jobs = [_job(run, arm, seed, trusted, progress) for arm, seed in wanted]
    written = TARGETS[to].write(jobs, settings)
    for text in written.notes:
        progress.note(f"note: {text}")
    evidence = _evidence(run, to, jobs, settings, written)
    back = os.path.relpath(run.root, target)  # commands are typed inside the folder
    files = {
        **written.files,
        README: readme(back, jobs, settings, written, with_test=bool(test)),
        EVIDENCE: json.dumps(evidence, indent=2, ensure_ascii=False) + "\n",
    }
    if test:
        files[TEST] = _questions(test)
    _write_folder(target, files)
    return {**evidence, "folder": str(target)}


def _check_target_folder(target: Path, *, force: bool) -> None:
    """Raise UsageError where the folder exists; `force` replaces an export, and nothing else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not force:
        raise UsageError(
            f"{target} is there already",
            hint="choose another --out, or pass --force to replace it",
        )
    if not (target / EVIDENCE).is_file():
        raise UsageError(
            f"{target} holds something else than an export, and is not overwritten",
            hint="choose another --out",
        )


def _wanted_arms(run: Run, names: Sequence[str], seeds: Sequence[int]) -> list[tuple[Arm, int]]:
    """Return every arm and seed to export; `random-0` names both."""
    if not run.section("selections"):
        raise UsageError(
            f"{run.root} holds no selection yet",
            hint=f"pilotfish select {run.root} --method METHOD --budget 10%",
        )
    found: dict[tuple[str, int], tuple[Arm, int]] = {}
    for name in names:
        numbered = _NUMBERED.fullmatch(name)
        if numbered and numbered[1] not in ARMS:
            numbered = None
        arm = _arm(run, numbered[1] if numbered else name)
        own_seeds = [int(numbered[2])] if numbered else seeds
        found |= {(arm.name, seed): (arm, seed) for seed in own_seeds}
    return list(found.values())


def _arm(run: Run, name: str) -> Arm:
    """Return a trained arm by name, or the arm of a selection; refuse all others."""
    if name.partition("@")[0] not in ARMS:
        if name in run.section("selections"):
            return Arm(name, "selection", name)
        raise unknown_name("arm", name, {*ARMS, *run.section("selections")})
    (arm,) = arms_for("none", trusted=bool(run.section("weak").get("trusted")), names=[name])
    if not arm.trained:
        raise UsageError(f"nothing is trained for the arm '{name}': there are no rows to export")
    if arm.rows == "relabelled":
        raise UsageError(
            f"the rows of '{name}' are answers that the weak model writes while the run trains",
            hint="pilotfish label DATA --weak MODEL --out RUN writes such rows",
        )
    if arm.steps != "equal":
        raise UsageError(
            f"the arm '{name}' takes another number of steps than the others, and exported arms "
            "share theirs",
            hint=f"export {name.partition('@')[0]} instead",
        )
    return arm


def _job(run: Run, arm: Arm, seed: int, trusted: Sequence[Example], progress: Progress) -> Job:
    """Collect an arm's rows in the order of the first training epoch."""
    draw = seed_stream(int(run.section("config").get("seed", 0)), seed)
    pool = pool_of(run)
    rows: list[Example] = []
    if arm.rows == "selection":
        rows = pool.take(kept_of(run, _selection_name(run, arm, seed, draw, progress)))
    elif arm.rows == "all":
        rows = list(pool.examples())
    if arm.trusted:
        rows += [replace(example, id=f"trusted:{example.id}") for example in trusted]
    order = shuffled([row_name(row) for row in rows], seed=draw, epoch=0)
    return Job(arm.name, seed, draw, [rows[i] for i in order])


def _selection_name(run: Run, arm: Arm, seed: int, draw: int, progress: Progress) -> str:
    """Return the selection of an arm and seed; draw a control that was not drawn yet."""
    known, tuned = run.section("selections"), bool(run.section("weak").get("trusted"))
    name = selection_name_of(run, arm, seed, tuned=tuned)
    selected = f"selected-{seed}" if tuned and seed else "selected"
    if tuned and seed and selected not in known:
        raise UsageError(
            f"{run.root} has no seed {seed}: a tuned weak model selects once per seed, and did so "
            f"for {', '.join(str(each) for each in seeds_of(run))}",
            hint=f"run the recipe with --seeds {seed + 1}",
        )
    if name in known or selected not in known:
        return name  # where nothing was selected, reading it raises
    with run_lock(run.root):
        if arm.selection == "longest":
            control = Control("longest", selected)
        elif arm.selection == "random-{seed}":
            control = Control("random", selected, draw)
        elif arm.selection == "length_matched-{seed}":
            control = Control("length_matched", selected, draw)
        else:
            return name
        draw_control(RunContext(run), control, name)
    progress.note(f"drew the control {name}")
    return name


def _questions(test: Sequence[Example]) -> str:
    """Return the questions for the trained models: one line of JSON per test row."""
    lines = [
        {
            "id": row.id,
            "hash": item_hash(row),
            "messages": [{"role": turn.role, "content": turn.content} for turn in row.prompt]
            or [{"role": "user", "content": row.text or ""}],
            "expected": row.response,
        }
        for row in test
    ]
    return "".join(json.dumps(each) + "\n" for each in lines)


def _evidence(
    run: Run, to: str, jobs: Sequence[Job], settings: TrainSettings, written: Written
) -> dict[str, Any]:
    """Return the fingerprints that identify the results when they come back."""
    selected, test = run.section("selections").get("selected", {}), run.section("test")
    facts = ("method", "budget", "delivered", "rows_digest")
    arms = [
        {
            "arm": job.arm,
            "seed": job.seed,
            "draw": job.draw,
            "file": f"{job.name}.jsonl",
            "rows": len(job.rows),
            "rows_digest": fingerprint(job.rows),
            "sha256": sha256(written.files[f"{job.name}.jsonl"].encode()).hexdigest(),
        }
        for job in jobs
    ]
    return {
        "target": to,
        "run": run.root.resolve().name,
        "pool": run.section("pool").get("fingerprint"),
        "selection": {key: selected.get(key) for key in facts},
        "test": {key: test.get(key) for key in ("fingerprint", "rows", "metric")} if test else None,
        "settings": {
            "strong": settings.strong,
            "steps": settings.steps,
            "warmup_steps": settings.warmup_steps,
            "learning_rate": settings.learning_rate,
            "use_peft": settings.peft,
            **settings.config.model_dump(mode="json", include=_SHARED_SETTINGS),
        },
        "arms": arms,
    }


def _write_folder(target: Path, files: dict[str, str]) -> None:
    """Write the whole folder or none of it: next to its place first, then moved there."""
    with disk_errors():
        target.parent.mkdir(parents=True, exist_ok=True)
        temp = target.parent / f".tmp-{secrets.token_hex(8)}"
        temp.mkdir()
        try:
            for name, text in files.items():
                (temp / name).write_bytes(text.encode("utf-8", "backslashreplace"))
            if target.exists():
                shutil.rmtree(target)
            temp.rename(target)
        finally:
            shutil.rmtree(temp, ignore_errors=True)
