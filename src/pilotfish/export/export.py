"""export: an arm's rows in the order of training, written for a trainer elsewhere."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pilotfish.arms.arms import ARMS, Arm, arms_for
from pilotfish.arms.rows import seed_stream, selection_name_of
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

EVIDENCE, README, TEST = "evidence.json", "README.md", "test.jsonl"
_NUMBERED = re.compile(r"(.+)-(\d+)")
_SHARED = {
    "per_device_train_batch_size", "gradient_accumulation_steps", "lr_scheduler_type",
    "weight_decay", "max_grad_norm", "max_length", "lora_r", "lora_alpha", "lora_dropout",
    "lora_target_modules", "bf16",
}  # fmt: skip


def export(
    out: str,
    to: str,
    *,
    arms: Sequence[str] = ("selected",),
    folder: str | None = None,
    seeds: Sequence[int] = (),
    strong: str | None = None,
    overrides: Sequence[str] = (),
    force: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Write the arms of a run for a trainer; returns what evidence.json says.

    arms: names of arms, or of one seed's (`random-0`). seeds: none is every seed that the run
    compares. strong: the model to be trained, where it is not the run's. overrides:
    `train.NAME=VALUE`, for the settings that are written. Controls that were not drawn yet are
    drawn. UsageError for a run without a selection, an unknown arm, target or seed, and for a
    folder that is there already (unless `force`).
    """
    if to not in TARGETS:
        raise unknown_name("target", to, TARGETS)
    run = open_run(out)
    target = Path(folder) if folder else run.root / "exports" / to
    _check_free(target, force=force)
    wanted = _wanted(run, arms, seeds or seeds_of(run))
    how = train_settings_of(run, progress, strong=strong, overrides=overrides)
    trusted = _trusted(run) if any(arm.trusted for arm, _ in wanted) else []
    jobs = [_job(run, arm, each, trusted, progress) for arm, each in wanted]
    written = TARGETS[to].write(jobs, how)
    for text in written.notes:
        progress.note(f"note: {text}")
    test = stored_test_rows(run)
    told = _evidence(run, to, jobs, how, written)
    back = os.path.relpath(run.root, target)  # commands are typed inside the folder
    about = readme(back, jobs, how, written, judged=bool(test))
    files = {**written.files, README: about, EVIDENCE: _json(told)}
    _land(target, {**files, **({TEST: _questions(test)} if test else {})})
    return {**told, "folder": str(target)}


def _check_free(target: Path, *, force: bool) -> None:
    """UsageError where the folder is there; `force` replaces an export, and nothing else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not force:
        raise UsageError(
            f"{target} is there already",
            hint="choose another --out, or pass --force to write it anew",
        )
    if not (target / EVIDENCE).is_file():
        raise UsageError(
            f"{target} holds something else than an export, and is not overwritten",
            hint="choose another --out",
        )


def _wanted(run: Run, names: Sequence[str], seeds: Sequence[int]) -> list[tuple[Arm, int]]:
    """Every arm and seed asked for; `random-0` names both."""
    if not run.section("selections"):
        raise UsageError(
            f"{run.root} holds no selection yet",
            hint=f"pilotfish select {run.root} --method METHOD --budget 10%",
        )
    found: dict[tuple[str, int], tuple[Arm, int]] = {}
    for name in names:
        numbered = _NUMBERED.fullmatch(name)
        one = numbered if numbered and numbered[1] in ARMS else None
        arm = _arm(run, one[1] if one else name)
        own = [int(one[2])] if one else seeds
        found |= {(arm.name, seed): (arm, seed) for seed in own}
    return list(found.values())


def _arm(run: Run, name: str) -> Arm:
    """A trained arm by name, or a selection of the user's own; UsageError for all others."""
    if name.partition("@")[0] not in ARMS and name in run.section("selections"):
        return Arm(name, "selection", name)
    if name.partition("@")[0] not in ARMS:
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
    """The arm's rows in the order in which the first pass over them learns them."""
    draw = seed_stream(int(run.section("config").get("seed", 0)), seed)
    pool = pool_of(run)
    rows: list[Example] = []
    if arm.rows == "selection":
        rows = pool.take(kept_of(run, _selection(run, arm, seed, progress)))
    elif arm.rows == "all":
        rows = list(pool.examples())
    if arm.trusted:
        rows += [replace(example, id=f"trusted:{example.id}") for example in trusted]
    order = shuffled([row_name(row) for row in rows], seed=draw, epoch=0)
    return Job(arm.name, seed, draw, [rows[i] for i in order])


def _selection(run: Run, arm: Arm, seed: int, progress: Progress) -> str:
    """The selection of an arm and seed; a control that was not drawn yet is drawn now."""
    known, tuned = run.section("selections"), bool(run.section("weak").get("trusted"))
    name = selection_name_of(run, arm, seed, tuned=tuned)
    picked = f"selected-{seed}" if tuned and seed else "selected"
    if tuned and seed and picked not in known:
        raise UsageError(
            f"{run.root} has no seed {seed}: the weak model picks anew for every seed, and did so "
            f"for {', '.join(str(each) for each in seeds_of(run))}",
            hint=f"run the recipe with --seeds {seed + 1}",
        )
    if name in known or picked not in known:
        return name  # where nothing was selected, reading it says so
    draw = seed_stream(int(run.section("config").get("seed", 0)), seed)
    with run_lock(run.root):
        if arm.selection == "longest":
            control = Control("longest", picked)
        elif arm.selection == "random-{seed}":
            control = Control("random", picked, draw)
        elif arm.selection == "length_matched-{seed}":
            control = Control("length_matched", picked, draw)
        else:
            return name
        draw_control(RunContext(run), control, name)
    progress.note(f"drew the control {name}")
    return name


def _trusted(run: Run) -> list[Example]:
    """The rows a person vouches for, but those that are judged on."""
    asked = overlap_keys(stored_test_rows(run))
    vouched = str(run.section("weak")["trusted"])
    return list(read_extra_rows(source_of_run(run), vouched, exclude=asked).examples)


def _questions(test: Sequence[Example]) -> str:
    """What the models are to be asked: one line per test row."""
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
    run: Run, to: str, jobs: Sequence[Job], how: TrainSettings, written: Written
) -> dict[str, Any]:
    """Fingerprints by which the results are recognised when they come back."""
    known = run.section("selections")
    chosen, test = known.get("selected", {}), run.section("test")
    return {
        "target": to,
        "run": run.root.resolve().name,
        "pool": run.section("pool").get("fingerprint"),
        "selection": {
            key: chosen.get(key) for key in ("method", "budget", "delivered", "rows_digest")
        },
        "test": {key: test.get(key) for key in ("fingerprint", "rows", "metric")} if test else None,
        "settings": {
            "strong": how.strong,
            "steps": how.steps,
            "warmup_steps": how.warmup_steps,
            "learning_rate": how.learning_rate,
            "use_peft": how.peft,
            **how.config.model_dump(mode="json", include=_SHARED),
        },
        "arms": [_about(job, written) for job in jobs],
    }


def _about(job: Job, written: Written) -> dict[str, Any]:
    name = f"{job.name}.jsonl"
    return {
        "arm": job.arm,
        "seed": job.seed,
        "draw": job.draw,
        "file": name,
        "rows": len(job.rows),
        "rows_digest": fingerprint(job.rows),
        "sha256": sha256(written.files[name].encode()).hexdigest(),
    }


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _land(target: Path, files: dict[str, str]) -> None:
    """The whole folder or none of it: written beside its place, then moved there."""
    from pilotfish.store.fs_ops import disk_errors

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
